package session

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"dbuild/agent/wire"
	"dbuild/engine"
	"dbuild/internal/fault"
)

// PutFiles unpacks a tar; see [engine.Container].
func (s *Session) PutFiles(ctx context.Context, tar io.Reader, opts engine.PutOptions) ([]engine.PutEntry, error) {
	source := &source{r: tar}
	var entries []engine.PutEntry
	work := func(op *wire.Op) (err error) {
		sent := make(chan struct{})
		go func() {
			source.send(op)
			close(sent)
		}()
		entries, err = readEntries(op.Reader(wire.StreamOut))
		// The caller owns tar again after the return, unless it asked to stop
		// while tar blocks.
		select {
		case <-sent:
		case <-ctx.Done():
			return ctx.Err()
		}
		if source.err != nil {
			return source.err
		}
		return err
	}
	var result wire.Result
	req := &wire.Put{Dir: opts.Dir, Decoder: opts.Decoder, KeepDirs: opts.KeepDirs}
	if err := s.do(ctx, wire.OpPut, req, work, &result); err != nil {
		return nil, err
	}
	if err := failure(&result); err != nil {
		return nil, err
	}
	return entries, nil
}

// source tells an error of the caller's reader from one of the connection.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (s *source) send(op *wire.Op) {
	w := op.Writer(wire.StreamIn)
	if _, err := w.ReadFrom(s); err == nil {
		_ = w.CloseWrite()
	} else if s.err != nil {
		_ = op.Cancel()
	}
}

// Pack writes a tar of a directory as the agent sees it: of what is mounted
// below it only the mount points, with the attributes of the mount. An
// inode is one file, whatever number of links the file system says it has.
func (s *Session) Pack(ctx context.Context, dir string, w io.Writer) error {
	work := func(op *wire.Op) error {
		_, err := op.Reader(wire.StreamOut).WriteTo(w)
		return err
	}
	var result wire.Result
	if err := s.do(ctx, wire.OpPack, &wire.Pack{Dir: dir}, work, &result); err != nil {
		return err
	}
	return failure(&result)
}

func readEntries(r io.Reader) ([]engine.PutEntry, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	var entries []engine.PutEntry
	var scratch []byte
	for {
		var e wire.Entry
		var err error
		scratch, err = wire.ReadItem(b, &e, scratch)
		if err == io.EOF { //nolint:errorlint // a wrapped one means that the item was cut short
			return entries, nil
		}
		if errors.Is(err, wire.ErrProtocol) {
			return nil, lost(err)
		}
		if err != nil {
			return nil, nil //nolint:nilerr // the connection; Wait tells
		}
		entries = append(entries, engine.PutEntry{
			Name: e.Name, Type: e.Type, Link: e.Link, Mode: e.Mode, UID: e.UID, GID: e.GID, Size: e.Size,
		})
	}
}

// GetFiles takes files out; see [engine.Container].
func (s *Session) GetFiles(ctx context.Context, dir string, names []string, lim engine.GetLimits, fn func(engine.GotFile, io.Reader) error) error {
	work := func(op *wire.Op) error {
		return readFiles(bufio.NewReaderSize(op.Reader(wire.StreamOut), 64<<10), names, lim, fn)
	}
	var result wire.Result
	req := &wire.Get{Dir: dir, Names: names, Files: lim.Files, Bytes: lim.Bytes}
	if err := s.do(ctx, wire.OpGet, req, work, &result); err != nil {
		return err
	}
	return failure(&result)
}

// readFiles hands out the files that arrive. It holds the agent to the names
// and limits once more.
func readFiles(r *bufio.Reader, names []string, lim engine.GetLimits, fn func(engine.GotFile, io.Reader) error) error {
	any := slices.Contains(names, "*")
	left := lim.Bytes
	var scratch []byte
	for i := 0; ; i++ {
		var h wire.FileHead
		var err error
		scratch, err = wire.ReadItem(r, &h, scratch)
		if err == io.EOF { //nolint:errorlint // a wrapped one means that the item was cut short
			return nil
		}
		if errors.Is(err, wire.ErrProtocol) {
			return lost(err)
		}
		if err != nil {
			return nil //nolint:nilerr // the connection; Wait tells
		}
		if strings.Contains(h.Name, "/") || h.Size < 0 || !any && (i >= len(names) || h.Name != names[i]) {
			return lost(fmt.Errorf("%w: unexpected file %q", wire.ErrProtocol, h.Name))
		}
		if left -= h.Size; i >= lim.Files || left < 0 {
			return fault.Wrap(fault.Resource, fmt.Errorf("take %q: %w", h.Name, engine.ErrTooMuch))
		}
		content := &exactly{r: r, left: h.Size}
		file := engine.GotFile{Name: h.Name, Mode: h.Mode, Size: h.Size, MTime: time.Unix(0, h.MTime)}
		if err := fn(file, content); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			return lost(err)
		}
	}
}

// exactly reads left bytes and does not take an early end for the end.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	if e.left -= int64(n); errors.Is(err, io.EOF) && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
