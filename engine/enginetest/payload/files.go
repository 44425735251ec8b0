package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	add("ls", ls)              // ls DIR: a line for each entry below it
	add("stat", stat)          // stat PATH…
	add("read", read)          // read PATH: its content
	add("write", write)        // write PATH TEXT
	add("mkdir", mkdir)        // mkdir PATH
	add("rm", rm)              // rm PATH: and what is below
	add("symlink", symlink)    // symlink TARGET PATH
	add("link", link)          // link OLD NEW
	add("mkfifo", mkfifo)      // mkfifo PATH
	add("chmod", chmod)        // chmod OCTAL PATH
	add("chown", chown)        // chown UID GID PATH
	add("rename", rename)      // rename OLD NEW
	add("nest", nest)          // nest DIR N: N directories inside each other
	add("fill-disk", fillDisk) // fill-disk PATH [BYTES]: write for ever, or so much, then fail
	add("access", access)      // access PATH…: whether reading and writing work
}

func gunzip([]string) error {
	r, err := gzip.NewReader(os.Stdin)
	if err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, r)
	return err
}

func fillDisk(args []string) error {
	f, err := os.Create(args[0])
	if err != nil {
		return err
	}
	left := math.MaxInt
	if len(args) > 1 {
		if left, err = strconv.Atoi(args[1]); err != nil {
			return err
		}
	}
	piece := bytes.Repeat([]byte("not zero"), 1<<17)
	for left > 0 && err == nil {
		var n int
		n, err = f.Write(piece[:min(left, len(piece))])
		left -= n
		time.Sleep(time.Millisecond)
	}
	return errors.Join(err, errors.New("that was all"))
}

func describe(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return "", err
	}
	target := ""
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		target, _ = os.Readlink(path)
		target = " -> " + target
	}
	return fmt.Sprintf("%06o %d:%d %d %d %d %q%s", st.Mode, st.Uid, st.Gid, st.Nlink, st.Size, st.Mtim.Sec, path, target), nil
}

func ls(args []string) error {
	return filepath.WalkDir(args[0], func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		line, err := describe(path)
		fmt.Println(line)
		return err
	})
}

func stat(args []string) error {
	for _, path := range args {
		line, err := describe(path)
		if err != nil {
			return err
		}
		fmt.Println(line)
	}
	return nil
}

func read(args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(os.Stdout, f)
	return err
}

func write(args []string) error { return os.WriteFile(args[0], []byte(args[1]), 0o644) }
func mkdir(args []string) error { return os.MkdirAll(args[0], 0o755) }
func rm(args []string) error    { return os.RemoveAll(args[0]) }

func symlink(args []string) error { return os.Symlink(args[0], args[1]) }
func link(args []string) error    { return os.Link(args[0], args[1]) }
func rename(args []string) error  { return os.Rename(args[0], args[1]) }
func mkfifo(args []string) error  { return unix.Mkfifo(args[0], 0o644) }

func chmod(args []string) error {
	mode, err := strconv.ParseUint(args[0], 8, 32)
	if err != nil {
		return err
	}
	return unix.Chmod(args[1], uint32(mode))
}

func chown(args []string) error {
	uid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	return os.Lchown(args[2], uid, gid)
}

// nest goes down by descriptor, since the whole path is far too long.
func nest(args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	if err := os.Chdir(args[0]); err != nil {
		return err
	}
	for range n {
		if err := unix.Mkdir("d", 0o755); err != nil {
			return err
		}
		if err := unix.Chdir("d"); err != nil {
			return err
		}
	}
	return nil
}

func access(args []string) error {
	for _, path := range args {
		r, w := "no", "no"
		if f, err := os.Open(path); err == nil {
			if n, _ := f.Read(make([]byte, 1)); n > 0 {
				r = "yes"
			}
			f.Close()
		}
		if f, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
			w = "yes"
			f.Close()
		}
		fmt.Printf("%s read=%s write=%s\n", path, r, w)
	}
	return nil
}
