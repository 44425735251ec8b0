package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sample is what one measured run took.
type sample struct {
	start     time.Time // of the first command
	wall, cpu time.Duration
	peak      int64              // bytes: resident peak of the largest process
	own       int64              // bytes: resident peak of the command's first process alone
	stages    map[string]float64 // seconds, where the command tells
}

func (s sample) plus(o sample) sample {
	if s.start.IsZero() {
		s.start = o.start
	}
	s.wall += o.wall
	s.cpu += o.cpu
	s.peak = max(s.peak, o.peak)
	s.own = max(s.own, o.own)
	if o.stages != nil {
		s.stages = o.stages
	}
	return s
}

func (s sample) String() string {
	return fmt.Sprintf("%.2f s (CPU %.2f s)", s.wall.Seconds(), s.cpu.Seconds())
}

// command is a program to run in a directory; the environment is the lab's own
// plus env. stdout keeps what the program prints there.
type command struct {
	argv   []string
	dir    string
	env    []string
	stdin  string
	stdout *bytes.Buffer // nil: joins the log
}

// runCommand runs one command and measures it. Its output goes to a file, which
// an error quotes.
func (l *lab) runCommand(ctx context.Context, c command) (s sample, err error) {
	log, err := os.Create(l.path("last.log"))
	if err != nil {
		return s, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Dir, cmd.Env = c.dir, append(l.env(), c.env...)
	cmd.Stdin = strings.NewReader(c.stdin)
	cmd.Stdout, cmd.Stderr = log, log
	if c.stdout != nil {
		cmd.Stdout = c.stdout
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second

	s.start = time.Now()
	if err := cmd.Start(); err != nil {
		return s, err
	}
	stop := make(chan struct{})
	own := make(chan int64, 1)
	go func() { own <- watchPeak(cmd.Process.Pid, stop) }()
	err = cmd.Wait()
	s.wall = time.Since(s.start)
	close(stop)
	s.own = <-own
	s.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		s.peak = int64(usage.Maxrss) << 10 //nolint:unconvert // 32 bits on arm
	}
	if err != nil {
		return s, fmt.Errorf("%s: %w\n%s", strings.Join(c.argv, " "), err, tail(log.Name(), 30))
	}
	return s, nil
}

// watchPeak reads a process's own peak until stop is closed: the kernel's usage
// record at the end counts its children too.
func watchPeak(pid int, stop <-chan struct{}) int64 {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var peak int64
	for {
		peak = max(peak, peakOf(pid))
		select {
		case <-stop:
			return peak
		case <-tick.C:
		}
	}
}

// peakOf returns VmHWM in bytes, 0 when the process is gone.
func peakOf(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		value, ok := strings.CutPrefix(line, "VmHWM:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err == nil {
			return kib << 10
		}
	}
	return 0
}

// tail returns the last n lines of a file, or why it cannot be read.
func tail(path string, n int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return lastLines(string(data), n)
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
