package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	add("true", func([]string) error { return nil })
	add("exit", exit)            // exit N
	add("echo", echo)            // echo WORD…: to stdout
	add("warn", warn)            // warn WORD…: to stderr
	add("cat", cat)              // stdin to stdout
	add("env", env)              // the environment, a line each
	add("pwd", pwd)              // the working directory and umask
	add("sleep", sleep)          // sleep SECONDS
	add("tick", tick)            // tick N MILLISECONDS: N lines, that far apart
	add("kill-self", killSelf)   // kill-self SIGNAL
	add("trap", trap)            // wait for SIGTERM, then exit 7
	add("daemon", daemon)        // daemon ARGUMENT…: run itself in the background, in a session of its own
	add("status", status)        // lines of /proc/self/status: status KEY…
	add("fds", fds)              // open descriptors and what they are
	add("pids", pids)            // processes in /proc
	add("tty", tty)              // the terminal: size, name, whether it is one
	add("fill", fill)            // fill BYTES: so many zero bytes to stdout
	add("hog", hog)              // hog BYTES: use memory
	add("forks", forks)          // forks N: start N sleeping children
	add("signal-one", signalOne) // send process 1 every signal that can be caught
	add("sh", shell)             // sh: commands from stdin, a line each
	add("gunzip", gunzip)        // stdin to stdout
}

func add(name string, run func([]string) error) { tools[name] = run }

func exit(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err == nil {
		os.Exit(n)
	}
	return err
}

func echo(args []string) error {
	_, err := fmt.Println(strings.Join(args, " "))
	return err
}

func warn(args []string) error {
	_, err := fmt.Fprintln(os.Stderr, strings.Join(args, " "))
	return err
}

func cat([]string) error {
	_, err := io.Copy(os.Stdout, os.Stdin)
	return err
}

func env([]string) error {
	for _, e := range os.Environ() {
		fmt.Println(e)
	}
	return nil
}

func pwd([]string) error {
	dir, err := os.Getwd()
	fmt.Printf("%s %03o\n", dir, unix.Umask(0))
	return err
}

func sleep(args []string) error {
	d, err := time.ParseDuration(args[0])
	time.Sleep(d)
	return err
}

func tick(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(args[1])
	for i := range n {
		fmt.Println("tick", i)
		time.Sleep(d)
	}
	return err
}

func killSelf(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	signal.Reset(syscall.Signal(n))
	if err := unix.Kill(os.Getpid(), syscall.Signal(n)); err != nil {
		return err
	}
	time.Sleep(10 * time.Second)
	return nil
}

func trap([]string) error {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGTERM)
	fmt.Println("ready")
	<-c
	os.Exit(7)
	return nil
}

// daemon leaves a process behind that holds stdout and has nothing to do with
// this one any more.
func daemon(args []string) error {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	fmt.Println("daemon", cmd.Process.Pid)
	return nil
}

func status(args []string) error {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), ":")
		for _, want := range args {
			if key == want {
				fmt.Println(key, strings.Join(strings.Fields(value), " "))
			}
		}
	}
	return nil
}

func fds([]string) error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		// The directory's own descriptor, and the runtime's for polling, are
		// closed or made by this program.
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.HasPrefix(target, "/proc/") && !strings.HasPrefix(target, "anon_inode:") {
			fmt.Println(e.Name(), target)
		}
	}
	return nil
}

func pids([]string) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			comm, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
			fmt.Println(e.Name(), strings.ReplaceAll(string(comm), "\x00", " "))
		}
	}
	return nil
}

func tty([]string) error {
	size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	if err != nil {
		return err
	}
	name, err := os.Readlink("/proc/self/fd/0")
	if err != nil {
		return err
	}
	control, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	fmt.Printf("%s %dx%d\n", name, size.Row, size.Col)
	return control.Close()
}

func fill(args []string) error {
	n, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		return err
	}
	_, err = io.CopyN(os.Stdout, zeros{}, n)
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func hog(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	b := make([]byte, n)
	for i := 0; i < n; i += 4096 {
		b[i] = 1
	}
	fmt.Println("had", len(b))
	return nil
}

func forks(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	for range n {
		if err := exec.Command("/proc/self/exe", "sleep", "30s").Start(); err != nil {
			return err
		}
	}
	fmt.Println("started", n)
	return nil
}

func signalOne([]string) error {
	for range 2000 { // while it still handles one of them, too
		for n := syscall.Signal(1); n < 32; n++ {
			_ = unix.Kill(1, n)
		}
	}
	fmt.Println("sent")
	return nil
}

// shell runs lines of words as tools, until one fails.
func shell([]string) error {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		run, ok := tools[words[0]]
		if !ok {
			return fmt.Errorf("no command %q", words[0])
		}
		if err := run(words[1:]); err != nil {
			return err
		}
	}
	return nil
}
