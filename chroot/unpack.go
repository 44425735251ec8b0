package chroot

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"dbuild/archive"
	"dbuild/deb"
	"dbuild/engine"
	"dbuild/internal/cleanup"
	"dbuild/internal/fault"
	"dbuild/internal/report"
)

// xzCommand is the container's own decompressor: a third faster than the best
// one in Go, and no stream meets a tool of the host.
var xzCommand = []string{"/usr/bin/xz", "-dc"}

func defaultWorkers() int { return min(max(runtime.NumCPU(), 1), 4) }

// unpacker fetches and unpacks the members of a set.
type unpacker struct {
	*bootstrap
	queue *queue
	bytes int64 // of all .debs
	done  atomic.Int64
	hasXZ func(context.Context) bool // asked once, when the seeds are in place
	// readers bounds how many control members are decompressed at a time:
	// each may take the memory of a whole xz dictionary.
	readers chan struct{}
}

func newUnpacker(b *bootstrap) *unpacker {
	u := &unpacker{bootstrap: b, queue: newQueue(b.set.members), readers: make(chan struct{}, 2)}
	u.hasXZ = u.probe()
	for _, m := range b.set.members {
		u.bytes += m.Size
	}
	return u
}

// run fetches all packages and unpacks each as soon as it is there.
func (u *unpacker) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	defer u.queue.watch(ctx)()
	g.Go(func() error { return u.fetch(ctx) })
	for range u.Workers {
		g.Go(func() error { return u.work(ctx) })
	}
	return g.Wait()
}

// fetch downloads what is missing and queues each package with its control
// part read.
func (u *unpacker) fetch(ctx context.Context) error {
	order := u.set.fetchOrder()
	files := make([]archive.File, len(order))
	bySum := make(map[string]*member, len(order))
	for i, m := range order {
		files[i] = m.file
		bySum[m.file.SHA256] = m
	}
	_, _, err := u.Copy.FetchEach(ctx, files, func(f archive.File) error {
		m := bySum[f.SHA256]
		if err := u.open(m); err != nil {
			return fmt.Errorf("read %s %s: %w", m.Name, m.Version, err)
		}
		u.queue.add(m)
		if m.Name == baseFiles {
			return u.layout(ctx)
		}
		return nil
	})
	return err
}

// open reads the control part of a package that has arrived.
func (u *unpacker) open(m *member) (err error) {
	u.readers <- struct{}{}
	defer func() { <-u.readers }()
	f, err := os.Open(u.Copy.Path(m.SHA256))
	if err != nil {
		return err
	}
	defer cleanup.Close(&err, f)
	m.control, err = openControl(f, m)
	return err
}

// layout lays the skeleton, once base-files tells which one, and lets the
// workers begin.
func (u *unpacker) layout(ctx context.Context) error {
	headers, err := u.baseFilesHeaders()
	if err != nil {
		return err
	}
	u.links = mergedLinks(headers, u.set, u.Arch)
	skeleton, err := skeletonTar(u.links, u.Epoch)
	if err != nil {
		return err
	}
	if _, err := u.container.PutFiles(ctx, skeleton, engine.PutOptions{}); err != nil {
		return engineFault(fmt.Errorf("lay skeleton: %w", err))
	}
	u.queue.release()
	return nil
}

// probe returns a function that runs the container's xz once. It does not
// run where the architecture is foreign and no emulation is set up.
func (u *unpacker) probe() func(context.Context) bool {
	var once sync.Once
	ok := false
	return func(ctx context.Context) bool {
		once.Do(func() {
			exit, err := u.container.Run(ctx, engine.Step{Argv: []string{xzCommand[0], "--version"}, Env: scriptEnv(u.Epoch)})
			if ok = err == nil && exit.OK(); !ok {
				u.Report.Note("the base's xz does not run here; decompressing in Go")
			}
		})
		return ok
	}
}

func (u *unpacker) work(ctx context.Context) error {
	for {
		m, seeded, err := u.queue.next()
		if m == nil || err != nil {
			return err
		}
		if err := u.unpackOne(ctx, m, seeded && u.hasXZ(ctx)); err != nil {
			return fmt.Errorf("unpack %s %s: %w", m.Name, m.Version, err)
		}
		u.queue.done(m)
		u.Report.Progress(report.Progress{Label: "unpack", Unit: report.Bytes, Done: u.done.Add(m.Size), Total: u.bytes})
	}
}

func (u *unpacker) unpackOne(ctx context.Context, m *member, inside bool) (err error) {
	f, err := os.Open(u.Copy.Path(m.SHA256))
	if err != nil {
		return err
	}
	defer cleanup.Close(&err, f)
	opts := engine.PutOptions{KeepDirs: true}
	var data io.Reader
	if inside && strings.HasSuffix(m.control.DataName, ".xz") {
		opts.Decoder = xzCommand
		data = io.NewSectionReader(f, m.control.DataOffset, m.control.DataSize)
	} else {
		rc, err := m.control.Data(f)
		if err != nil {
			return fault.Wrap(fault.Input, err)
		}
		defer cleanup.Close(&err, rc)
		data = bufio.NewReaderSize(rc, 1<<18)
	}
	if m.entries, err = u.container.PutFiles(ctx, data, opts); err != nil {
		return engineFault(err)
	}
	return checkEntries(m.entries)
}

// openControl reads the control member and checks that the .deb is the
// package that the index announced.
func openControl(f *os.File, m *member) (*deb.BinaryFile, error) {
	b, err := deb.OpenDeb(f, m.Size)
	if err != nil {
		return nil, fault.Wrap(fault.Input, err)
	}
	for _, field := range [...]struct{ name, want string }{
		{"Package", m.Name}, {"Version", m.Version}, {"Architecture", m.Architecture},
	} {
		if got := b.Control.Get(field.name); got != field.want {
			return nil, fault.New(fault.Trust, "the index says %s %q, the package itself %q", field.name, field.want, got)
		}
	}
	return b, nil
}

// checkEntries refuses names that could not be written to a dpkg file list.
func checkEntries(entries []engine.PutEntry) error {
	for _, e := range entries {
		if strings.ContainsAny(e.Name, "\n\x00") {
			return fault.New(fault.Input, "file name %q in the data member", e.Name)
		}
	}
	return nil
}
