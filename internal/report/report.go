// Package report is the one way in which the library packages tell a person
// or a program what is going on. The command line has the implementations: a
// progress bar, plain lines, JSON events. Nothing below the command line
// prints.
package report

// Unit says what a progress count counts.
type Unit string

// The units of progress.
const (
	Bytes    Unit = "bytes"
	Packages Unit = "packages"
	Files    Unit = "files"
)

// Progress is the state of one piece of work.
type Progress struct {
	Label string // what is worked on: "download", "unpack", …
	Unit  Unit
	Done  int64
	Total int64 // 0 when it is not known
}

// Reporter receives what happens. Its methods are safe for concurrent use and
// never block for long. The final call for a label has Done == Total.
type Reporter interface {
	Progress(Progress)
	// Note is a fact worth a line in the log and with -v: which image was
	// reused, which mirror answered.
	Note(format string, args ...any)
	// Warn is a fact that a person should see even without -v.
	Warn(format string, args ...any)
}

// Discard drops everything.
var Discard Reporter = discard{}

type discard struct{}

func (discard) Progress(Progress)   {}
func (discard) Note(string, ...any) {}
func (discard) Warn(string, ...any) {}
