package pid1

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"dbuild/agent/wire"
)

// terminalGroup is the group "tty" of every Debian system.
const terminalGroup = 5

// openTerminal makes a fresh pseudo terminal in the container's own devpts.
// The step's end is opened through the agent's, never by a path.
func (st *streams) openTerminal(s *step) error {
	master, err := os.OpenFile("/dev/pts/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	st.stdin, st.stdout = master, master
	conn, err := master.SyscallConn()
	if err != nil {
		return err
	}
	// Not through Fd, which would make the descriptor blocking.
	var slave *os.File
	var ioErr error
	err = conn.Control(func(fd uintptr) { slave, ioErr = openPeer(int(fd), s) })
	if slave != nil {
		st.opened = append(st.opened, slave)
		st.ends = [3]*os.File{slave, slave, slave}
	}
	if err := errors.Join(err, ioErr); err != nil {
		return err
	}
	go followSize(s.op, conn)
	return nil
}

func openPeer(master int, s *step) (*os.File, error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("unlock terminal: %w", err)
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, fmt.Errorf("open terminal: %w", errno)
	}
	slave := os.NewFile(peer, "terminal")
	if err := unix.Fchown(int(peer), s.UID, terminalGroup); err != nil {
		return slave, fmt.Errorf("hand over terminal: %w", err)
	}
	return slave, setSize(master, uint16(s.Rows), uint16(s.Cols))
}

// followSize passes size changes on until the step ends.
func followSize(op *wire.Op, conn syscall.RawConn) {
	for err := error(nil); err == nil; {
		select {
		case size := <-op.Sizes():
			err = conn.Control(func(fd uintptr) { _ = setSize(int(fd), size[0], size[1]) })
		case <-op.Ended():
			return
		}
	}
}

func setSize(fd int, rows, cols uint16) error {
	err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	if err != nil {
		return fmt.Errorf("set terminal size: %w", err)
	}
	return nil
}
