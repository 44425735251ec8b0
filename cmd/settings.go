package cmd

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dbuild/config"
	"dbuild/deb"
	"dbuild/doctor"
	"dbuild/engine"
	"dbuild/internal/fault"
)

// common are the flags that every verb honours.
type common struct {
	config   string
	state    string
	engine   string
	json     bool
	quiet    bool
	verbose  bool
	dist     string
	arch     string
	mirror   string
	keyrings []string
	parts    []string // components
	offline  bool
	maxAge   time.Duration
	expired  bool
	signDebs bool

	signWithin time.Duration

	origins map[string]string // where each setting came from
}

// flagOnly are switches that skip a check or belong to one run: they are never
// read from a file or the environment.
var flagOnly = map[string]bool{
	"allow-expired": true, "network": true, "config": true, "help": true, "version": true,
	"refresh": true, "output-tar": true, "images": true, "recursive": true,
	"signer": true, "output-file": true, "distrust": true, "insecure": true,
}

func (o *common) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.config, "config", "", "settings `FILE` instead of the user's own")
	f.StringVar(&o.state, "state", "", "`DIR` that holds images, keys, repository (default /var/lib/dbuild for root, ~/.local/share/dbuild for a user)")
	f.StringVar(&o.engine, "engine", "auto", "container `ENGINE`: native, docker, podman, or auto, decided at the first use of a state")
	f.BoolVar(&o.json, "json", false, "print JSON events on stdout and nothing else")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print errors only")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "print the build log and what is going on")
	f.StringVarP(&o.dist, "dist", "d", "", "`SUITE` to build for (default: what the changelog says)")
	f.StringVar(&o.arch, "arch", deb.HostArch(), "Debian `ARCH`itecture to build for")
	f.StringVar(&o.mirror, "mirror", "", "archive `URL` (default: what the host's apt uses, else the vendor's)")
	f.StringSliceVar(&o.keyrings, "keyring", nil, "`FILE` with the archive's keys (default: the installed archive keyring)")
	f.StringSliceVar(&o.parts, "components", nil, "further components of the suite: contrib, non-free `…`")
	f.BoolVar(&o.offline, "offline", false, "use only what was fetched before")
	f.DurationVar(&o.maxAge, "max-age", 0, "do not ask the archive again within this `TIME`")
	f.BoolVar(&o.expired, "allow-expired", false, "accept an archive past its Valid-Until; recorded in what is made from it")
}

// addSignDebs adds the flag of the verbs that bring packages into the repository.
func addSignDebs(f *pflag.FlagSet, v *bool) {
	f.BoolVar(v, "sign-debs", false, "sign inside of each .deb that the repository hands out (_gpgorigin, for debsig-verify)")
}

// load fills flags that were not given from environment and files, and checks
// those whose values are known.
func (o *common) load(a *app, c *cobra.Command) error {
	a.json = o.json
	known := map[string]bool{}
	for _, f := range allFlags(a) {
		known[f] = !flagOnly[f]
	}
	files := []string{config.MachineFile, config.UserFile(a.getenv)}
	if o.config != "" {
		files[1] = o.config
	}
	values, err := config.Load(config.Sources{Getenv: a.getenv, Files: files, Required: o.config}, known)
	if err != nil {
		return err
	}
	o.origins = map[string]string{}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		switch v, ok := values[f.Name]; {
		case f.Changed:
			o.origins[f.Name] = "flag"
		case ok:
			o.origins[f.Name] = v.Origin
			for _, text := range v.Text {
				if e := f.Value.Set(text); e != nil && err == nil {
					err = fault.New(fault.Usage, "%s: setting %s: %w", v.Origin, f.Name, e)
				}
			}
		default:
			o.origins[f.Name] = "built-in"
		}
	})
	if err != nil {
		return err
	}
	a.json = o.json
	return o.validate()
}

func (o *common) validate() error {
	switch o.engine {
	case auto, doctor.Native, doctor.Docker, doctor.Podman:
	default:
		return fault.WithHint(fault.New(fault.Usage, "no engine %q", o.engine), "known: auto, native, docker, podman")
	}
	if !deb.KnownArch(o.arch) {
		return fault.New(fault.Usage, "no architecture %q in dpkg's table", o.arch)
	}
	compatible := o.arch == deb.HostArch() || o.arch == "i386" && deb.HostArch() == "amd64"
	if !compatible {
		return fault.New(fault.Usage, "this machine (%s) cannot run %s", deb.HostArch(), o.arch)
	}
	if o.signWithin < 0 {
		return fault.New(fault.Usage, "--sign-timeout %s is negative", o.signWithin)
	}
	if o.maxAge < 0 {
		return fault.New(fault.Usage, "--max-age %s is negative", o.maxAge)
	}
	return nil
}

// switches are the checks that this run switches off, for the record.
func (o *common) switches() []string {
	var s []string
	if o.expired {
		s = append(s, "allow-expired")
	}
	if len(o.keyrings) > 0 {
		s = append(s, "keyring")
	}
	return s
}

// allFlags are the names of the flags of all verbs.
func allFlags(a *app) []string {
	seen := map[string]bool{}
	var names []string
	for _, c := range append(newRootCommand(a).Commands(), newBuildCommand(a)) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !seen[f.Name] {
				seen[f.Name] = true
				names = append(names, f.Name)
			}
		})
	}
	return names
}

// size parses 512M, 4G or a number of bytes.
func size(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	unit := int64(1)
	number := text
	if i := strings.IndexByte("kMGT", text[len(text)-1]); i >= 0 {
		unit, number = int64(1)<<(10*(i+1)), text[:len(text)-1]
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > (1<<62)/unit {
		return 0, fault.New(fault.Usage, "%q is no size: give bytes or a number with k, M, G or T", text)
	}
	return n * unit, nil
}

// limits are the bounds on a build's container.
func limits(memory, disk string, strict bool) (engine.Limits, error) {
	bytes, err1 := size(memory)
	blocks, err2 := size(disk)
	return engine.Limits{
		PIDs:   engine.Limit{Value: 32 << 10, Required: strict},
		Memory: engine.Limit{Value: bytes, Required: strict && bytes > 0},
		Disk:   engine.Limit{Value: blocks, Required: strict && blocks > 0},
	}, errors.Join(err1, err2)
}
