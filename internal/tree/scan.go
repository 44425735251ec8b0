package tree

import "fmt"

// Scan looks through a merged manifest for what an image must not hold, and
// returns one line for each thing found:
//
//   - dev, proc, sys, run, tmp and etc must be real directories, because
//     engines mount on them; so must dev/pts, dev/shm, var and var/tmp if they
//     exist;
//   - etc/hosts, etc/hostname, etc/resolv.conf and .dockerenv must be regular
//     files if they exist;
//   - there are no device nodes outside dev.
//
// setid lists the regular files that raise their caller's rights: set-user-id,
// set-group-id or with file capabilities. They are no problem but are recorded.
func Scan(m Manifest) (problems, setid []string) {
	found := make(map[string]bool)
	for i := range m {
		e := &m[i]
		want, required := mountTarget(e.Path)
		switch {
		case want != 0 && e.Type != want:
			problems = append(problems, fmt.Sprintf("%q is %s where engines mount %s", e.Path, e.Type.words(), want.words()))
		case (e.Type == TypeChar || e.Type == TypeBlock) && !below(e.Path, "dev"):
			problems = append(problems, fmt.Sprintf("%q is %s outside dev", e.Path, e.Type.words()))
		}
		found[e.Path] = found[e.Path] || required
		if e.Type == TypeFile && (e.Mode&0o6000 != 0 || e.Caps != "") {
			setid = append(setid, e.Path)
		}
	}
	for _, p := range requiredDirs {
		if !found[p] {
			problems = append(problems, fmt.Sprintf("directory %q is missing", p))
		}
	}
	return problems, setid
}

// requiredDirs are the directories without which no container starts.
var requiredDirs = []string{"dev", "etc", "proc", "run", "sys", "tmp"}

// mountTarget returns the type that path must have, 0 for any.
func mountTarget(path string) (want Type, required bool) {
	switch path {
	case "dev", "etc", "proc", "run", "sys", "tmp":
		return TypeDir, true
	case ".", "dev/pts", "dev/shm", "var", "var/tmp":
		return TypeDir, false
	case "etc/hosts", "etc/hostname", "etc/resolv.conf", ".dockerenv":
		return TypeFile, false
	}
	return 0, false
}

// words names the type for people; "" if it is unknown.
func (t Type) words() string {
	switch t {
	case TypeFile:
		return "a regular file"
	case TypeDir:
		return "a directory"
	case TypeSymlink:
		return "a symbolic link"
	case TypeChar:
		return "a character device"
	case TypeBlock:
		return "a block device"
	case TypeFIFO:
		return "a named pipe"
	case TypeSocket:
		return "a socket"
	case TypeWhiteout:
		return "a whiteout"
	}
	return ""
}
