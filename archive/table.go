package archive

// vendor is what the suites of one distributor have in common.
type vendor struct {
	name           string
	mirror         string   // traditional alias of the archive root
	security       string   // root of the security suites; "" when they are in the main archive
	ports          string   // root for the architectures outside primary; "" when there is one archive
	primary        []string // architectures in mirror, when ports is set
	domains        []string // hosts below these belong to the vendor
	keyringPackage string
	keyrings       []string // tried in order; below the host's root
	development    string   // see [Suite.DevelopmentSuite]
	pockets        []pocket
	releases       []release
}

// release is a suite that stands alone.
type release struct {
	name       string
	codename   string // when it differs from name
	aliases    []string
	released   bool
	components []string // enabled by default
	all        []string
	base       string // laid over this release, with pin, as experimental is
	pin        int
	pockets    bool // has the vendor's pockets
}

// pocket is a suite that exists beside every release of a vendor.
type pocket struct {
	suffix string
	// codename says that the Release carries the pocket's own name as
	// Codename (Debian) and not the release's (Ubuntu).
	codename bool
	security bool     // lives in the security archive
	over     []string // suffixes of the pockets that it is laid over, the release itself first of all
	pin      int
	// alternatives: what is built for this pocket resolves all alternatives of
	// a build dependency, since the first is often too new for the release.
	alternatives bool
}

// standard are the pockets that every build for a release takes in.
var standard = []string{"updates", "security"}

func vendors() []vendor { return []vendor{debian(), ubuntu()} }

// debian is the state of November 2026. bullseye is the first release whose
// security suite is called bullseye-security; before, it was buster/updates.
// Its Release names its components "updates/main", the indexes lie below main.
func debian() vendor {
	three := []string{"main", "contrib", "non-free"}
	four := []string{"main", "contrib", "non-free", "non-free-firmware"}
	main := []string{"main"}
	return vendor{
		name:           "debian",
		mirror:         "http://ftp.debian.org/debian",
		security:       "http://security.debian.org/debian-security",
		domains:        []string{"debian.org", "debian.net"},
		keyringPackage: "debian-archive-keyring",
		keyrings: []string{
			"/usr/share/keyrings/debian-archive-keyring.pgp",
			"/usr/share/keyrings/debian-archive-keyring.gpg",
		},
		development: "sid",
		pockets: []pocket{
			{suffix: "updates", codename: true, over: standard},
			{suffix: "security", codename: true, security: true},
			{suffix: "proposed-updates", codename: true, over: standard},
			{suffix: "backports", codename: true, over: standard, pin: 100, alternatives: true},
			{suffix: "backports-sloppy", codename: true, over: append(standard[:2:2], "backports"), pin: 100, alternatives: true},
		},
		releases: []release{
			{name: "bullseye", aliases: []string{"oldoldstable"}, released: true, components: main, all: three, pockets: true},
			{name: "bookworm", aliases: []string{"oldstable"}, released: true, components: main, all: four, pockets: true},
			{name: "trixie", aliases: []string{"stable"}, released: true, components: main, all: four, pockets: true},
			{name: "forky", aliases: []string{"testing"}, components: main, all: four, pockets: true},
			{name: "duke", components: main, all: four, pockets: true},
			{name: "sid", aliases: []string{"unstable"}, components: main, all: four},
			{name: "experimental", codename: "rc-buggy", aliases: []string{"rc-buggy"}, components: main, all: four, base: "sid", pin: 1},
		},
	}
}

// ubuntu has the releases of November 2026 that are in its main archive. Its
// own builders take the security pocket without updates and the proposed
// pocket at the priority of the others.
func ubuntu() vendor {
	enabled := []string{"main", "universe"}
	all := []string{"main", "restricted", "universe", "multiverse"}
	v := vendor{
		name:           "ubuntu",
		mirror:         "http://archive.ubuntu.com/ubuntu",
		ports:          "http://ports.ubuntu.com/ubuntu-ports",
		primary:        []string{"amd64", "i386"},
		domains:        []string{"ubuntu.com"},
		keyringPackage: "ubuntu-archive-keyring",
		keyrings: []string{
			"/usr/share/keyrings/ubuntu-archive-keyring.pgp",
			"/usr/share/keyrings/ubuntu-archive-keyring.gpg",
		},
		development: "stonking",
		pockets: []pocket{
			{suffix: "updates", over: standard},
			{suffix: "security", security: true},
			{suffix: "proposed", over: standard, pin: 500},
			{suffix: "backports", over: standard, pin: 100, alternatives: true},
		},
	}
	for _, name := range []string{"focal", "jammy", "noble", "questing", "resolute", "stonking"} {
		v.releases = append(v.releases, release{name: name, released: true, components: enabled, all: all, pockets: true})
	}
	return v
}
