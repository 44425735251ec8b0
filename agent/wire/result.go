package wire

// Status is the class of a result.
type Status byte

// The classes of results.
const (
	OK          Status = iota
	Failed             // anything else
	NotFound           // a command, directory or file does not exist
	Refused            // the input or a file breaks a rule
	NoSpace            // the file system is full
	TooMuch            // a limit of Get
	Unsupported        // the kernel cannot do it
	Cancelled          // the host asked to stop
)

// Result is the outcome of an operation.
type Result struct {
	Status Status
	Text   string // for people
}

func (r *Result) code(c *coder) {
	c.byte((*byte)(&r.Status))
	c.string(&r.Text)
}

// Err returns nil for OK and r itself otherwise.
func (r *Result) Err() error {
	if r.Status == OK {
		return nil
	}
	return r
}

// Error returns the text.
func (r *Result) Error() string { return r.Text }
