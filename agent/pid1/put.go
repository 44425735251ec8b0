package pid1

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"dbuild/agent/wire"
)

// put unpacks a stream and sends back what it unpacked.
func (a *agent) put(op *wire.Op, m *wire.Put) (err error) {
	stream := io.Reader(op.Reader(wire.StreamIn))
	if len(m.Decoder) > 0 {
		plain, err := a.decode(op, m.Decoder)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, plain.Close()) }()
		stream = plain
	}
	u, err := newUnpacker(a, m, op.Writer(wire.StreamOut))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, u.close()) }()
	if err := u.unpack(stream); err != nil {
		return err
	}
	// Padding behind the end of the archive; the sender may count on having
	// all of its stream read.
	_, err = io.Copy(io.Discard, stream)
	return err
}

// decode runs the container's own decoder over the whole stream. Between the
// programs stand memory files rather than pipes: a decoder that writes in
// small pieces costs seconds of system time with a pipe.
func (a *agent) decode(op *wire.Op, argv []string) (*memReader, error) {
	in, err := memFile("encoded")
	if err != nil {
		return nil, err
	}
	defer in.Close()
	if _, err := io.Copy(in, op.Reader(wire.StreamIn)); err != nil {
		return nil, fmt.Errorf("take stream: %w", err)
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	out, err := memFile("plain")
	if err != nil {
		return nil, err
	}
	if err := a.runDecoder(op, argv, in, out); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return &memReader{file: out}, nil
}

func (a *agent) runDecoder(op *wire.Op, argv []string, in, out *os.File) error {
	complaints, err := memFile("complaints")
	if err != nil {
		return err
	}
	defer complaints.Close()
	env := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	path, err := lookPath(argv[0], env)
	if err != nil {
		return err
	}
	p, err := a.start(command{
		path: path, argv: argv, env: env, dir: "/", umask: 0o022,
		files: []uintptr{in.Fd(), out.Fd(), complaints.Fd()},
	})
	if err != nil {
		return fmt.Errorf("start decoder %q: %w", argv[0], err)
	}
	select {
	case status := <-p.exit:
		if status == 0 {
			return nil
		}
		text := make([]byte, 500)
		n, _ := complaints.ReadAt(text, 0)
		return refuse("decoder %q ended with status %d: %s", argv[0], status.ExitStatus(), text[:n])
	case <-op.Ended():
		_ = unix.Kill(-p.pid, unix.SIGKILL)
		<-p.exit
		return wire.ErrClosed
	}
}

func memFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("make memory file: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// memReader reads a memory file once, from its start, and gives its pages back
// on the way.
type memReader struct {
	file  *os.File
	at    int64
	freed int64
}

const freeStep = 8 << 20

func (r *memReader) Read(p []byte) (int, error) {
	n, err := unix.Pread(int(r.file.Fd()), p, r.at)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	r.at += int64(n)
	if whole := r.at &^ (freeStep - 1); whole > r.freed {
		// Failing to free memory early is no reason to stop.
		_ = unix.Fallocate(int(r.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, r.freed, whole-r.freed)
		r.freed = whole
	}
	return n, nil
}

func (r *memReader) Close() error { return r.file.Close() }
