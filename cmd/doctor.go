package cmd

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"dbuild/archive"
	"dbuild/buildenv"
	"dbuild/doctor"
	"dbuild/engine"
	"dbuild/engine/docker"
	"dbuild/internal/fault"
	"dbuild/internal/report"
	"dbuild/internal/state"
	"dbuild/internal/userns"
	"dbuild/sign"
)

func newDoctorCommand(a *app) *cobra.Command {
	o := &common{}
	c := &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Say what works on this machine, what does not, and what mends it",
		Long: `Check whether builds can run here: the state directory, the disk, the clock, what
the kernel allows, the daemons that answer, the archive keyrings. Each check is
one line: ok, note (works, or is not needed by the engine in use) or fail, with
the command that mends it. Nothing is changed; each engine that can be reached
starts one empty container.

With --json, an array of {"code", "status", "needed", "text", "mend"}; codes and
statuses are stable, and a build can run unless one that is needed fails.

Exit status: 0 if a build can run, 17 if not.`,
		Example: "  dbuild doctor\n  dbuild doctor --engine docker --json",
		Args:    a.atMost(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.load(a, c); err != nil {
				return err
			}
			return a.doctor(c.Context(), o)
		},
	}
	o.addFlags(c.Flags())
	return c
}

func (a *app) doctor(ctx context.Context, o *common) error {
	if _, inside := userns.Inside(); inside { // for tryInNamespace
		t := tryEngine(ctx, o.state, doctor.Native)
		return a.printJSON(namespaceTrial{t.Limits, errorText(t.Err), t.Hint})
	}
	facts, err := a.facts(ctx, o)
	if err != nil {
		return err
	}
	found := doctor.Examine(facts)
	if !doctor.Works(found) {
		a.exit = buildenv.ExitCode(fault.Engine)
	}
	if o.json {
		return a.printJSON(found)
	}
	width := 0
	for _, f := range found {
		width = max(width, len(f.Code))
	}
	for _, f := range found {
		status := f.Status
		if status == doctor.Fail && !f.Needed {
			status = doctor.Note
		}
		if o.quiet && status != doctor.Fail {
			continue
		}
		line := fmt.Sprintf("%-4s  %-*s  %s", status, width, f.Code, f.Text)
		if f.Mend != "" {
			line += "; mend: " + f.Mend
		}
		if _, err := fmt.Fprintln(a.stdout, buildenv.Printable(line)); err != nil {
			return err
		}
	}
	return nil
}

// facts asks the machine, the state and the engines.
func (a *app) facts(ctx context.Context, o *common) (f doctor.Facts, err error) {
	dir := o.state
	if dir == "" {
		if dir, err = state.DefaultDir(os.Geteuid(), a.getenv); err != nil {
			return f, err
		}
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return f, fault.Wrap(fault.Usage, err)
	}
	f = doctor.Facts{
		UID: os.Geteuid(), User: userName(), Now: time.Now(), State: doctor.LookDirectory(dir),
		Trials: map[string]doctor.Trial{}, Daemons: map[string]doctor.Daemon{}, Keyrings: installedKeyrings(o.keyrings),
	}
	if f.Engine, f.Why, err = a.engineOf(ctx, o, dir); err != nil {
		return f, err
	}
	f.Look(ctx, "/", exec.LookPath)
	if f.Dates, err = archive.Seen(filepath.Join(dir, "archive")); err != nil {
		f.State.Err = err
	}
	f.RepoKeys, f.RepoErr = signingKeys(dir, f.Now)
	f.Daemons[doctor.Docker] = lookDaemon(ctx, docker.Host(a.getenv))
	f.Daemons[doctor.Podman] = lookDaemon(ctx, docker.PodmanHost(f.UID, a.getenv))
	if f.State.Err == nil && f.State.Writable {
		f.Trials[doctor.Native] = tryEngine(ctx, dir, doctor.Native)
		if f.Daemons[doctor.Docker].Err == nil {
			f.Trials[doctor.Docker] = tryEngine(ctx, dir, doctor.Docker)
		}
		if d := f.Daemons[doctor.Podman]; d.Err == nil && d.Kind == doctor.Podman {
			f.Trials[doctor.Podman] = tryEngine(ctx, dir, doctor.Podman)
		}
	}
	return f, ctx.Err()
}

// engineOf tells which engine a run would use, and why.
func (a *app) engineOf(ctx context.Context, o *common, dir string) (name, why string, err error) {
	if o.engine != auto {
		return o.engine, cmp.Or(o.origins["engine"], "flag") + " says so", nil
	}
	if name, err = recordedChoice(dir); err != nil || name != "" {
		return name, "what auto means for this state since its first use", err
	}
	name, why = a.decideEngine(ctx, dir)
	return name, why, nil
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return strconv.Itoa(os.Geteuid())
}

// signingKeys are the keys of the repository that a gpg-agent has; gpg is not
// asked.
func signingKeys(dir string, now time.Time) (all []doctor.SigningKey, err error) {
	keys, err := agentKeys(dir, now)
	for _, k := range keys {
		e := k.Expiry()
		all = append(all, doctor.SigningKey{Fingerprint: k.Fingerprint(), Expires: e.At, Near: e.Near(now), Over: e.Over(now), Mend: e.Mend})
	}
	return all, err
}

// lookWithin bounds how long a daemon may take to answer.
const lookWithin = 10 * time.Second

func lookDaemon(ctx context.Context, host string) doctor.Daemon {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	d, err := docker.Look(ctx, host)
	return doctor.Daemon{Host: d.Host, Version: d.Version, API: d.API, Driver: d.Driver, Kind: d.Kind, Err: err, Hint: fault.HintOf(err)}
}

// tryWithin bounds how long an engine may take to start a container.
const tryWithin = time.Minute

// tryEngine starts a container on an image of nothing, in a state of its own
// beside the real one, on the same file system.
func tryEngine(ctx context.Context, dir, name string) doctor.Trial {
	ctx, cancel := context.WithTimeout(ctx, tryWithin)
	defer cancel()
	if name == doctor.Native && os.Geteuid() != 0 {
		return tryInNamespace(dir)
	}
	info, err := tryIn(ctx, doctor.Nearest(dir), name)
	return doctor.Trial{Limits: info.Limits, Err: err, Hint: fault.HintOf(err)}
}

// namespaceTrial is what a copy of this process, as root of a user's namespace,
// says to tryInNamespace.
type namespaceTrial struct {
	Limits      []string
	Error, Hint string
}

// tryInNamespace tries the native engine where a user's containers run. All
// other facts are the host's, as they are seen from outside.
func tryInNamespace(dir string) doctor.Trial {
	out, err := userns.Output([]string{os.Args[0], "doctor", "--engine=native", "--state=" + dir})
	var t namespaceTrial
	if err == nil {
		err = json.Unmarshal(out, &t)
	}
	if err != nil {
		return doctor.Trial{Err: err, Hint: fault.HintOf(err)}
	}
	if t.Error != "" {
		err = fault.New(fault.Engine, "%s", t.Error)
	}
	return doctor.Trial{Limits: t.Limits, Err: err, Hint: t.Hint}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func tryIn(ctx context.Context, parent, name string) (info engine.Info, err error) {
	dir, err := os.MkdirTemp(parent, ".dbuild-doctor-")
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := state.Open(ctx, filepath.Join(dir, "state"), nil)
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	e, err := openEngine(ctx, name, s, report.Discard)
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	if info, err = e.Info(ctx); err != nil {
		return info, err
	}
	return info, startAndStop(ctx, e)
}

// startAndStop runs a step in a container that lacks its program, which is as
// far as one gets without any file: the agent has confined itself by then.
func startAndStop(ctx context.Context, e engine.Engine) (err error) {
	var empty bytes.Buffer
	w := tar.NewWriter(&empty)
	err = errors.Join(w.WriteHeader(&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}), w.Close())
	if err != nil {
		return err
	}
	image, err := e.Import(ctx, &empty, engine.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Remove(context.WithoutCancel(ctx), image.ID)) }()
	c, err := e.Create(ctx, engine.Spec{Image: image.ID, Purpose: engine.PurposeBuild, Network: engine.NetworkNone})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	_, err = c.Run(ctx, engine.Step{Argv: []string{"/true"}, User: engine.User{UID: 1000, GID: 1000}})
	if errors.Is(err, engine.ErrNotFound) {
		return nil
	}
	return fault.New(fault.Engine, "run a missing program: %w", cmp.Or(err, errors.New("it ended")))
}

// installedKeyrings looks for each vendor's, or at those of the settings.
func installedKeyrings(given []string) []doctor.Keyring {
	if len(given) > 0 {
		k := doctor.Keyring{Vendor: "settings", Path: given[0], Settings: true}
		return []doctor.Keyring{readKeyring(k, given...)}
	}
	var all []doctor.Keyring
	host, _ := archive.FindSuite(buildenv.HostSuite()) // none when the host is of another vendor
	for _, s := range archive.Suites() {
		if n := len(all); n > 0 && all[n-1].Vendor == s.Vendor {
			all[n-1].Suites = append(all[n-1].Suites, s.Name)
			continue
		}
		k := doctor.Keyring{Vendor: s.Vendor, Suites: []string{s.Name}, Package: s.KeyringPackage, Host: s.Vendor == host.Vendor}
		for _, path := range s.Keyrings {
			if _, err := os.Stat(path); err == nil {
				k.Path = path
				k = readKeyring(k, path)
				break
			}
		}
		all = append(all, k)
	}
	return all
}

func readKeyring(k doctor.Keyring, paths ...string) doctor.Keyring {
	ring, err := sign.OpenKeyring(paths...)
	if err != nil {
		k.Err = err
		return k
	}
	k.Keys = len(ring.Fingerprints())
	return k
}
