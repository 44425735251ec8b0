// Package config reads dbuild's settings once, from the environment and the
// configuration files, and says where each came from. Only the command line
// imports it.
//
// A setting has the name of its flag. Its value is, in this order: the flag,
// the environment variable DBUILD_NAME (upper case, "-" as "_"), the user's
// file ($XDG_CONFIG_HOME/dbuild/config.toml or the one named by --config), the
// machine's file (/etc/dbuild/config.toml), the built-in default. The files are
// TOML, one key for each setting:
//
//	dist = "bookworm"
//	keyring = ["/usr/share/keyrings/debian-archive-keyring.gpg"]
//	sign.debs = true
//
// The dot of a table is a "-" of the name: the last one is sign-debs.
//
// Nothing is ever read from the source tree or the current directory, and
// switches that skip a check exist only as flags.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"dbuild/internal/fault"
)

// MachineFile is the machine's configuration file.
const MachineFile = "/etc/dbuild/config.toml"

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// Value is a setting's value as flags are written, and its origin for people.
type Value struct {
	Text   []string
	Origin string
}

// Sources says where to look. Files are in rising order of weight; a missing
// file is no error unless it is Required.
type Sources struct {
	Getenv   func(string) string
	Files    []string
	Required string
}

// UserFile returns the path of the user's file, or "" when there is no home.
func UserFile(getenv func(string) string) string {
	if dir := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "dbuild/config.toml")
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".config/dbuild/config.toml")
	}
	return ""
}

// EnvName returns the environment variable of a setting.
func EnvName(setting string) string {
	return "DBUILD_" + strings.ToUpper(strings.ReplaceAll(setting, "-", "_"))
}

// Load reads the settings that are named in known. A name maps to false when
// it may be given as a flag only; finding it elsewhere is a usage error, as is
// an unknown key in a file.
func Load(src Sources, known map[string]bool) (map[string]Value, error) {
	values := map[string]Value{}
	for _, file := range src.Files {
		if file == "" {
			continue
		}
		if err := readFile(file, file == src.Required, known, values); err != nil {
			return nil, fault.Wrap(fault.Usage, fmt.Errorf("read settings %q: %w", file, err))
		}
	}
	for name, allowed := range known {
		text := src.Getenv(EnvName(name))
		switch {
		case text == "":
		case !allowed:
			return nil, fault.New(fault.Usage, "environment variable %s: --%s can only be given as a flag", EnvName(name), name)
		default:
			values[name] = Value{[]string{text}, "environment " + EnvName(name)}
		}
	}
	return values, nil
}

func readFile(path string, required bool, known map[string]bool, values map[string]Value) error {
	data, err := readTrusted(path)
	if errors.Is(err, fs.ErrNotExist) && !required {
		return nil
	}
	if err != nil {
		return err
	}
	var doc map[string]any
	if err := toml.Unmarshal(data, &doc); err != nil {
		return err
	}
	settings := map[string]any{}
	if err := flatten(doc, "", settings); err != nil {
		return err
	}
	for key, raw := range settings {
		allowed, ok := known[key]
		if !ok {
			return fmt.Errorf("unknown setting %q%s", key, near(key, known))
		}
		if !allowed {
			return fmt.Errorf("setting %q can only be given as a flag", key)
		}
		text, err := texts(raw)
		if err != nil {
			return fmt.Errorf("setting %q: %w", key, err)
		}
		values[key] = Value{text, "file " + path}
	}
	return nil
}

// flatten gives the keys of tables their settings' names.
func flatten(table map[string]any, prefix string, settings map[string]any) error {
	for key, raw := range table {
		name := prefix + key
		if below, ok := raw.(map[string]any); ok {
			if err := flatten(below, name+"-", settings); err != nil {
				return err
			}
			continue
		}
		if _, ok := settings[name]; ok {
			return fmt.Errorf("setting %q is given twice", name)
		}
		settings[name] = raw
	}
	return nil
}

// readTrusted reads a regular file that nobody but its owner can write.
func readTrusted(path string) (_ []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	if fi.Mode().Perm()&0o022 != 0 {
		return nil, fault.WithHint(fault.New(fault.Usage, "others can write it (mode %04o)", fi.Mode().Perm()), "chmod go-w %s", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		return nil, fmt.Errorf("larger than %d bytes", maxFile)
	}
	return data, err
}

// texts turns a TOML value into flag texts.
func texts(raw any) ([]string, error) {
	switch v := raw.(type) {
	case string:
		return []string{v}, nil
	case bool:
		return []string{strconv.FormatBool(v)}, nil
	case int64:
		return []string{strconv.FormatInt(v, 10)}, nil
	case []any:
		var all []string
		for _, item := range v {
			text, err := texts(item)
			if err != nil {
				return nil, err
			}
			all = append(all, text...)
		}
		return all, nil
	default:
		return nil, fmt.Errorf("a text, number, truth value or list is expected, not %T", raw)
	}
}

// near proposes a known setting for a misspelt one.
func near(key string, known map[string]bool) string {
	var names []string
	for name := range known {
		if strings.ReplaceAll(key, "_", "-") == name || len(key) > 3 && strings.HasPrefix(name, key[:3]) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	sort.Strings(names)
	return " (did you mean " + strings.Join(names, " or ") + "?)"
}
