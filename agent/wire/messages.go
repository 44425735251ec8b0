package wire

// OpType says what an operation does.
type OpType byte

// The operations.
const (
	OpSetup   OpType = 1 // Setup → SetupResult; first, once
	OpRun     OpType = 2 // Run → RunResult; streams: stdin; stdout, stderr
	OpPut     OpType = 3 // Put → Result; streams: tar; entries, each as WriteItem frames them
	OpGet     OpType = 4 // Get → Result; streams: none; for each file an Item with FileHead, then its bytes
	OpQuiesce OpType = 5 // Empty → Result
	OpPack    OpType = 6 // Pack → Result; streams: none; a tar, in manifest order
)

// Root says how the agent gets its root file system.
type Root byte

// The kinds of root.
const (
	RootReady   Root = iota // a daemon made it, with /dev, /proc and the rest: Docker
	RootPlain               // the directory "root" of the container directory
	RootOverlay             // an overlay of Layers and the container's "root" directory
	RootBare                // as RootPlain, but with nothing mounted: for Import
)

// Descriptors that a native agent inherits, above the standard ones.
const (
	FDConn      = 3 // the connection
	FDProgram   = 4 // the agent's own program; closed at once
	FDLayers    = 5 // detached mount of the store's layers, read-only
	FDContainer = 6 // detached mount of the container's directory
	FDTrees     = 7 // detached mounts of trees, in the order of Setup.Trees
)

// Setup makes the agent prepare the container.
type Setup struct {
	Version    int
	Root       Root
	Layers     []string // directories below FDLayers, topmost first
	NoSUID     bool     // mount the root nosuid
	Trees      []string // targets, for FDTrees and up
	Hostname   string
	Hosts      string // content of /etc/hosts
	ResolvConf string // content of /etc/resolv.conf
	Processes  int    // of each user, where no control group bounds them; 0: no bound
	PrivateNet bool   // a network namespace of its own: bring lo up, mount a fresh /sys
	Confine    Confine
}

// Confine is how steps are held.
type Confine struct {
	Caps        uint64 // bounding set: bit n is capability n
	NoNewPrivs  bool
	SwallowSync bool   // fsync and its kin do nothing
	Compat      string // GOARCH of a second permitted system call table ("386", "arm"), or ""
}

// SetupResult is the answer to Setup.
type SetupResult struct {
	Result
	Created []string // paths that had to be made as mount points; absolute
	Missing []string // optional features that this kernel lacks
}

// Run starts one step.
type Run struct {
	Argv, Env     []string
	Dir           string
	UID, GID      int
	Umask         int
	Stdin         bool // StreamIn is used
	Stdout        bool // StreamOut is used
	Stderr        bool // StreamErr is used; else it joins stdout
	TTY           bool
	Rows, Cols    int
	Timeout, Idle int64 // nanoseconds; 0: none
}

// End says why a step ended.
type End byte

// The ways in which a step ends.
const (
	EndSelf End = iota
	EndTimeout
	EndIdle
	EndCancelled
)

// Limit is a bound of the container that was hit while a step ran.
type Limit byte

// The limits that the agent can see, in containers that a daemon made.
const (
	LimitNone Limit = iota
	LimitMemory
	LimitPIDs
	LimitDisk
)

// RunResult is how a step ended. Result is about starting it.
type RunResult struct {
	Result
	Code   int // -1 when a signal ended it
	Signal int
	End    End
	Limit  Limit // of a step that failed
}

// Put unpacks a tar.
type Put struct {
	Dir      string
	Decoder  []string
	KeepDirs bool
}

// Entry is one unpacked entry.
type Entry struct {
	Name string
	Type byte
	Link string
	Mode int64
	UID  int
	GID  int
	Size int64
}

// Get asks for regular files.
type Get struct {
	Dir   string
	Names []string
	Files int
	Bytes int64
}

// Pack asks for a directory with all that is in it.
type Pack struct{ Dir string }

// FileHead precedes the Size bytes of a file.
type FileHead struct {
	Name  string
	Mode  int64
	Size  int64
	MTime int64 // nanoseconds since 1970
}

// Empty is a request without arguments.
type Empty struct{}

func (m *Setup) code(c *coder) {
	c.int(&m.Version)
	c.byte((*byte)(&m.Root))
	c.strings(&m.Layers)
	c.bool(&m.NoSUID)
	c.strings(&m.Trees)
	c.string(&m.Hostname)
	c.string(&m.Hosts)
	c.string(&m.ResolvConf)
	c.int(&m.Processes)
	c.bool(&m.PrivateNet)
	c.uint(&m.Confine.Caps)
	c.bool(&m.Confine.NoNewPrivs)
	c.bool(&m.Confine.SwallowSync)
	c.string(&m.Confine.Compat)
}

func (m *SetupResult) code(c *coder) {
	m.Result.code(c)
	c.strings(&m.Created)
	c.strings(&m.Missing)
}

func (m *Run) code(c *coder) {
	c.strings(&m.Argv)
	c.strings(&m.Env)
	c.string(&m.Dir)
	c.int(&m.UID)
	c.int(&m.GID)
	c.int(&m.Umask)
	c.bool(&m.Stdin)
	c.bool(&m.Stdout)
	c.bool(&m.Stderr)
	c.bool(&m.TTY)
	c.int(&m.Rows)
	c.int(&m.Cols)
	c.int64(&m.Timeout)
	c.int64(&m.Idle)
}

func (m *RunResult) code(c *coder) {
	m.Result.code(c)
	c.int(&m.Code)
	c.int(&m.Signal)
	c.byte((*byte)(&m.End))
	c.byte((*byte)(&m.Limit))
}

func (m *Put) code(c *coder) {
	c.string(&m.Dir)
	c.strings(&m.Decoder)
	c.bool(&m.KeepDirs)
}

func (m *Entry) code(c *coder) {
	c.string(&m.Name)
	c.byte(&m.Type)
	c.string(&m.Link)
	c.int64(&m.Mode)
	c.int(&m.UID)
	c.int(&m.GID)
	c.int64(&m.Size)
}

func (m *Get) code(c *coder) {
	c.string(&m.Dir)
	c.strings(&m.Names)
	c.int(&m.Files)
	c.int64(&m.Bytes)
}

func (m *Pack) code(c *coder) { c.string(&m.Dir) }

func (m *FileHead) code(c *coder) {
	c.string(&m.Name)
	c.int64(&m.Mode)
	c.int64(&m.Size)
	c.int64(&m.MTime)
}

func (*Empty) code(*coder) {}
