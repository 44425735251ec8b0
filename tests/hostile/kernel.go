package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	for _, name := range []string{
		"/proc/kcore", "/proc/keys", "/proc/key-users", "/proc/timer_list", "/proc/sched_debug", "/proc/interrupts", "/proc/kallsyms", "/proc/kmsg",
		"/proc/latency_stats", "/proc/acpi/wakeup", "/proc/scsi/scsi", "/proc/asound/version", "/dev/kmsg", "/dev/mem",
	} {
		attempt("C08.read-"+strings.ReplaceAll(name[1:], "/", "-"), "cdb", "host", func() error { return readSome(name) })
	}
	for _, dir := range []string{"/sys/firmware", "/sys/devices/virtual/powercap", "/proc/acpi", "/proc/scsi"} {
		attempt("C08.list-"+strings.ReplaceAll(dir[1:], "/", "-"), "cdb", "host", func() error { return list(dir) })
	}
	for _, name := range []string{
		"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/overcommit_memory", "/proc/sys/vm/drop_caches",
		"/proc/sys/fs/binfmt_misc/register", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity",
		"/sys/kernel/mm/transparent_hugepage/enabled", "/sys/power/state", "/sys/kernel/uevent_helper", "/sys/module/kernel/parameters/panic",
	} {
		attempt("C09.write-"+strings.ReplaceAll(name[1:], "/", "-"), "cdb", "host", func() error { return openForWriting(name) })
	}
	attempt("C09.oom-score", "cdb", "host", func() error {
		err := os.WriteFile("/proc/self/oom_score_adj", []byte("-500"), 0o644)
		if caps, _ := strconv.ParseUint(statusFields()["CapEff"], 16, 64); params["twin"] != "" && caps&(1<<unix.CAP_SYS_RESOURCE) == 0 {
			return errAbsent // not even the host's root may
		}
		return err
	})
	attempt("C09.cgroup-files", "cdb", "host", func() error { return writableBelow("/sys/fs/cgroup") })
	attempt("C09.sysfs-files", "cdb", "host", func() error { return writableBelow("/sys/kernel", "/sys/module", "/sys/power") })
	attempt("C10.settime", "cdb", "host", func() error { // to the time that it is
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
			return err
		}
		return call(unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME, uintptr(unsafe.Pointer(&now)))
	})
	attempt("C10.adjtime", "cdb", "host", func() error { // by nothing
		_, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_OFFSET_SINGLESHOT})
		return err
	})
	attempt("C10.syslog", "cdb", "host", func() error { _, err := unix.Klogctl(3, make([]byte, 100)); return err })
	attempt("C10.hostname", "cdb", "ns", func() error { return unix.Sethostname([]byte("owned")) })
	attempt("C10.reboot", "cdb", "host", func() error { return reached(call(unix.SYS_REBOOT, 1, 2, 3)) }) // no magic numbers
	attempt("C18.session-keyring", "cdb", "host", func() error { return call(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0) })
	attempt("C18.add-key", "cdb", "host", func() error {
		_, err := unix.AddKey("user", "dbuild-hostile", []byte(params["token"]), unix.KEY_SPEC_PROCESS_KEYRING)
		return err
	})
	attempt("C18.read-keys", "cdb", "host", func() error { _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, true); return err })
	attempt("C18.request-key", "cdb", "host", func() error {
		_, err := unix.RequestKey("user", "dbuild-no-such-key", "", unix.KEY_SPEC_PROCESS_KEYRING)
		if errors.Is(err, unix.ENOKEY) || errors.Is(err, unix.ENOENT) {
			return nil // it looked
		}
		return err
	})
	attempt("C38.perf", "cdb", "host", func() error {
		fd, err := unix.PerfEventOpen(&unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Size: unix.PERF_ATTR_SIZE_VER0}, 0, -1, -1, 0)
		if err == nil {
			err = unix.Close(fd)
		}
		return err
	})
	attempt("C38.userfaultfd", "cdb", "host", func() error { return call(unix.SYS_USERFAULTFD, unix.O_CLOEXEC) })
	attempt("C38.io-uring", "cdb", "host", func() error {
		var p [120]byte
		return call(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&p)))
	})
	attempt("C38.bpf", "cdb", "host", func() error { return reached(call(unix.SYS_BPF, 0, 0, 0)) })
	// Documented: debuggers and some test suites switch the randomisation off
	// for their own children, and nobody else is concerned.
	works("C39.personality", "cdb", func() error {
		if runtime.GOARCH == "386" {
			return nil
		}
		const noRandomise = 0x0040000
		if _, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, noRandomise, 0, 0); errno != 0 {
			return errno
		}
		return nil
	})
}

// readSome succeeds when a file has something to tell.
func readSome(name string) error {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return errAbsent
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if name == "/proc/kmsg" { // to read is to take away
		return notNull(f)
	}
	n, err := f.Read(make([]byte, 8192))
	if n > 0 {
		fmt.Println(n, "bytes")
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return errors.New("empty")
	}
	return err
}

func list(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return errAbsent
	}
	if err == nil && len(entries) == 0 {
		if params["twin"] != "" {
			return errAbsent
		}
		return errors.New("empty")
	}
	return err
}

// openForWriting writes nothing. A null device in the file's place takes it all.
func openForWriting(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return errAbsent
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return notNull(f)
}

// notNull fails for the null device.
func notNull(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3) {
		return errors.New("the null device")
	}
	return nil
}

// writableBelow succeeds when any file below the directories can be opened for
// writing.
func writableBelow(dirs ...string) error {
	found, tried := "", 0
	for _, dir := range dirs {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || found != "" || !d.Type().IsRegular() || tried > 20_000 {
				return nil
			}
			tried++
			if openForWriting(path) == nil {
				found = path
			}
			return nil
		})
	}
	if found == "" {
		return fmt.Errorf("%d files, none writable", tried)
	}
	fmt.Println(found)
	return nil
}
