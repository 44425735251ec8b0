// Package pid1 is what runs as the first process of every container: it
// prepares the container, starts and reaps the steps, and moves files in and
// out, all on behalf of the host at the other end of one connection. When that
// connection ends it exits, and the kernel ends everything else with it.
//
// The agent keeps more capabilities than any step and is not dumpable, so no
// step can look into it through /proc or ptrace.
package pid1

import (
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"dbuild/agent/wire"
)

// How the agent is reached, its first argument.
const (
	// ModeNative expects the descriptors of package wire; the second argument
	// is the number of descriptors, standard ones included.
	ModeNative = "native"
	// ModeStdio speaks over standard input and output, in a container that
	// somebody else made.
	ModeStdio = "stdio"
)

// Main runs the agent with the arguments behind the program name. It does not
// return.
func Main(args []string) {
	// A step's thread gives up its privileges and ends with the step's start;
	// the first thread, whose credentials guard /proc/1, must never be one.
	runtime.LockOSThread()
	setName()
	rw, err := connection(args)
	score := openOOMScore() // not possible any more without being dumpable
	if err == nil {
		err = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	}
	if err != nil {
		os.Stderr.WriteString("dbuild-agent: " + err.Error() + "\n")
		os.Exit(125)
	}
	debug.SetGCPercent(400)
	runtime.GOMAXPROCS(min(runtime.NumCPU(), 4))
	shieldSignals()
	unix.Umask(0)
	a := newAgent(wire.NewConn(rw), score)
	go a.procs.reap()
	over := make(chan struct{})
	go func() {
		_ = a.conn.Serve(a.accept) // nobody is left to tell
		close(over)
	}()
	<-over
	os.Exit(0)
}

// setName replaces the name that ps shows, which is else a descriptor's.
func setName() {
	name := append([]byte("dbuild-agent"), 0)
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0)
}

// connection takes over the descriptors it was started with and closes all
// others.
func connection(args []string) (io.ReadWriteCloser, error) {
	switch {
	case len(args) == 2 && args[0] == ModeNative:
		count, err := strconv.Atoi(args[1])
		if err != nil {
			return nil, err
		}
		return nativeConnection(count)
	case len(args) == 1 && args[0] == ModeStdio:
		reserveThreads()
		return stdioConnection()
	}
	return nil, os.ErrInvalid
}

func nativeConnection(count int) (io.ReadWriteCloser, error) {
	if err := unix.CloseRange(uint(count), 1<<31-1, 0); err != nil {
		return nil, err
	}
	// Lost by some ways of starting, so it is asked for again.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return nil, err
	}
	for fd := wire.FDConn; fd < count; fd++ {
		unix.CloseOnExec(fd)
	}
	if err := unix.Close(wire.FDProgram); err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(wire.FDConn, true); err != nil {
		return nil, err
	}
	return os.NewFile(wire.FDConn, "connection"), nil
}

// Threads is how many processes of a limit the agent itself may take up.
const Threads = 24

// reserveThreads makes threads before a step can use up the container's limit
// of processes: the runtime cannot go on when it needs one more and gets none.
// It never gives idle ones back.
func reserveThreads() {
	var ready, done sync.WaitGroup
	ready.Add(Threads - 8)
	for range Threads - 8 {
		done.Go(func() {
			runtime.LockOSThread()
			ready.Done()
			ready.Wait()
			runtime.UnlockOSThread()
		})
	}
	done.Wait()
}

// stdio joins two descriptors.
type stdio struct{ in, out *os.File }

func (s stdio) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s stdio) Write(p []byte) (int, error) { return s.out.Write(p) }
func (s stdio) Close() error                { return s.in.Close() }

func stdioConnection() (io.ReadWriteCloser, error) {
	if err := unix.CloseRange(3, 1<<31-1, 0); err != nil {
		return nil, err
	}
	var s stdio
	for i, f := range []**os.File{&s.in, &s.out} {
		fd, err := unix.FcntlInt(uintptr(i), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return nil, err
		}
		*f = os.NewFile(uintptr(fd), "connection")
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	for i := range 2 { // standard error stays, for the engine's log
		if err := unix.Dup3(null, i, 0); err != nil {
			return nil, err
		}
	}
	return s, unix.Close(null)
}
