package cmd

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"dbuild/buildenv"
	"dbuild/internal/report"
)

// observer shows what happens: a bar on a terminal, a line for each stage
// elsewhere, events with --json. One process shows one bar.
type observer struct {
	mu      sync.Mutex
	err     io.Writer // for people
	events  io.Writer // for programs; nil without --json
	bars    bool
	quiet   bool
	verbose bool
	bar     *progressbar.ProgressBar
	label   string
	closed  bool
	build   string
	stage   buildenv.Stage
	sent    time.Time // of the last progress event
}

func (a *app) observer(o *common) *observer {
	w := &observer{err: a.stderr, quiet: o.quiet, verbose: o.verbose}
	if o.json {
		w.events = a.stdout
	}
	w.bars = isTerminal(a.stderr) && a.getenv("TERM") != "dumb" && !o.quiet && !o.verbose && !o.json
	return w
}

// Close takes the bar away. It may be called twice.
func (o *observer) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.clear()
	o.closed = true
}

func (o *observer) StageStart(build string, s buildenv.Stage) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.build, o.stage = build, s
	o.event("stage-start", nil)
	if o.bars {
		o.show(string(s), 0)
	}
}

func (o *observer) StageEnd(build string, s buildenv.Stage, took time.Duration, said string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.event("stage-end", map[string]any{"seconds": took.Seconds()})
	o.clear()
	if o.quiet || o.events != nil || err != nil {
		return
	}
	_, _ = fmt.Fprintf(o.err, "%-8s %6.2f s  %s\n", s, took.Seconds(), buildenv.Printable(said))
}

// Progress shows the state of the work; events are sent at most four times a
// second.
func (o *observer) Progress(p report.Progress) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.events != nil && (p.Done == p.Total || time.Since(o.sent) > 250*time.Millisecond) {
		o.sent = time.Now()
		o.event("progress", map[string]any{"unit": p.Unit, "done": p.Done, "total": p.Total, "label": p.Label})
	}
	if !o.bars || o.closed {
		return
	}
	if o.bar == nil || o.label != p.Label {
		o.show(p.Label, p.Total)
	}
	if p.Total > 0 {
		o.bar.ChangeMax64(p.Total)
	}
	_ = o.bar.Set64(p.Done)
}

func (o *observer) Note(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.verbose && o.events == nil {
		o.line("I: " + fmt.Sprintf(format, args...))
	}
}

func (o *observer) Warn(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	o.event("warning", map[string]any{"message": buildenv.Printable(text)})
	if !o.quiet {
		o.line("W: " + text)
	}
}

// LogWriter returns a writer that shows untrusted build output, a line at a
// time and escaped.
func (o *observer) LogWriter() io.Writer { return &logWriter{o: o} }

func (o *observer) line(text string) {
	o.clear()
	_, _ = fmt.Fprintln(o.err, buildenv.Printable(text))
}

// show starts a bar; the one before is taken away.
func (o *observer) show(label string, total int64) {
	o.clear()
	if total == 0 {
		total = -1 // a spinner
	}
	o.label = label
	o.bar = progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(o.err), progressbar.OptionSetDescription(fmt.Sprintf("%-8s", label)),
		progressbar.OptionShowBytes(strings.Contains(label, "download")), progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetWidth(30),
		progressbar.OptionClearOnFinish(), progressbar.OptionSetRenderBlankState(true))
}

func (o *observer) clear() {
	if o.bar != nil {
		_ = o.bar.Clear()
		o.bar = nil
	}
}

// event writes one JSON line.
func (o *observer) event(name string, fields map[string]any) {
	if o.events == nil {
		return
	}
	e := map[string]any{"v": 1, "time": time.Now().UTC(), "event": name, "build": o.build, "stage": o.stage}
	for k, v := range fields {
		e[k] = v
	}
	if data, err := json.Marshal(e); err == nil {
		_, _ = fmt.Fprintf(o.events, "%s\n", data)
	}
}

// logWriter cuts output into lines and shows them.
type logWriter struct {
	o    *observer
	rest []byte
}

// maxLine bounds what is held of a line without an end.
const maxLine = 4096

func (w *logWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		i := strings.IndexByte(string(w.rest), '\n')
		if i < 0 && len(w.rest) < maxLine {
			return len(p), nil
		}
		if i < 0 {
			i = len(w.rest)
		}
		w.o.mu.Lock()
		w.o.line(string(w.rest[:i]))
		w.o.mu.Unlock()
		w.rest = w.rest[min(i+1, len(w.rest)):]
	}
}
