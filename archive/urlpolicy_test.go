package archive

import (
	"net/url"
	"strings"
	"testing"

	"dbuild/internal/fault"
)

func TestCheckMirror(t *testing.T) {
	for _, good := range []string{
		"http://ftp.debian.org/debian", "https://user:pass@mirror.example/debian/", "http://[2001:db8::1]:8080/debian", "http://127.0.0.1:1/",
	} {
		if err := checkMirror(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "debian", "/srv/debian", "file:///srv/debian", "ftp://x/debian", "javascript:alert(1)", "http:", "http://", "http:///debian",
		"http://user@/debian", "http:opaque", "http://x:0/", "http://x:70000/", "http://x:y/", "http://x:/", "http://x/a b", "http://x/a\nb",
		"http://x/a\x00", "http://x/%0a", "http://x/%7F", "http://x/\u00e4", "http://x/#f", "http://x/?q=1", "http://x/?", "http://x/%zz",
		"http://[::1/debian", "http://x%0a/debian", strings.Repeat("http://x/", 2000),
	} {
		err := checkMirror(bad)
		if fault.ClassOf(err) != fault.Usage {
			t.Errorf("%.60q: %v, want a usage error", bad, err)
		}
	}
}

func TestCheckRedirect(t *testing.T) {
	for _, tt := range []struct {
		from, to string
		ok       bool
	}{
		{"http://a/x", "http://b/y?signature=1", true},
		{"http://a/x", "https://b/y", true},
		{"https://a/x", "http://a/y", false},
		{"http://a/x", "ftp://a/y", false},
		{"http://a/x", "http://169.254.169.254/", false},
		{"http://a/x", "http://[fe80::1]/", false},
		{"http://a/x", "http://[::ffff:127.0.0.1]/", false},
		{"http://a/x", "http://0.0.0.0/", false},
		{"http://127.0.0.1/x", "http://127.0.0.1:8080/y", true},
		{"http://a/x", "http://192.168.1.1/", true}, // mirrors in a private network
		{"http://a/x", "http://b/%0d%0a", false},
	} {
		from, err := url.Parse(tt.from)
		if err != nil {
			t.Fatal(err)
		}
		to, err := url.Parse(tt.to)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkRedirect(from, to); (err == nil) != tt.ok {
			t.Errorf("%s to %s: %v", tt.from, tt.to, err)
		}
	}
}

func TestRedactURL(t *testing.T) {
	for raw, want := range map[string]string{
		"http://mirror.example/debian":             "http://mirror.example/debian",
		"http://joe:secret@mirror.example/debian":  "http://mirror.example/debian",
		"http://joe@mirror.example:80/debian":      "http://mirror.example:80/debian",
		"http://joe:sec@ret@mirror.example/debian": "http://mirror.example/debian",
		"http://joe:sec/ret@mirror.example/debian": "http://mirror.example/debian",
		"joe:secret@mirror.example/debian":         "mirror.example/debian",
		"https://cdn.example/x.deb?sig=secret":     "https://cdn.example/x.deb",
		"http://[2001:db8::1]:8080/@scope/x":       "http://[2001:db8::1]:8080/@scope/x",
	} {
		if got := RedactURL(raw); got != want {
			t.Errorf("%s: got %s, want %s", raw, got, want)
		}
	}
}

// FuzzURLPolicy: what is accepted has http or https, a host, no control bytes,
// reads the same again, and is redacted without a trace of its password.
func FuzzURLPolicy(f *testing.F) {
	for _, seed := range []string{
		"http://ftp.debian.org/debian", "https://joe:pw@x:443/a%2Bb?q=1", "http://[::1]/", "http://x/%0a", "http://x:0/", "ftp://x/",
		"http://joe:p%2Fw@x/", "HTTP://X/", "http://x/..//y", "http://%41/", "http://x%00/", "http://a:b:c/", "http://@/", "http://x\t/",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := parseURL(raw)
		redacted := RedactURL(raw)
		if err != nil {
			return
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
			t.Errorf("accepted %q", raw)
		}
		for _, c := range []byte(raw + u.Path + u.Hostname()) {
			if c < ' ' || c == 0x7f {
				t.Errorf("accepted %q with a control character", raw)
			}
		}
		again, err := parseURL(u.String())
		if err != nil || again.String() != u.String() {
			t.Errorf("%q reads as %q, which reads as %v (%v)", raw, u, again, err)
		}
		clean, err := url.Parse(redacted)
		if err != nil || clean.User != nil || clean.RawQuery != "" || clean.Host != u.Host || clean.Path != u.Path {
			t.Errorf("%q redacted to %q", raw, redacted)
		}
	})
}

// FuzzAptSources: no input makes the parsers fail, and every field they return
// is free of blanks.
func FuzzAptSources(f *testing.F) {
	for _, seed := range []string{
		"deb [arch=amd64 signed-by=/a,/b] http://x/debian bookworm main contrib # c\ndeb-src cdrom:[Debian GNU/Linux]/ sid main\n",
		"Types: deb deb-src\n# c\nURIs: http://x/debian\n http://y\nSuites: bookworm\nComponents: main\nSigned-By:\n -----BEGIN PGP\n .\n x\nEnabled: yes\n",
		"deb [", "deb [] x", "Types: deb\n\n\n\nTypes: deb\nURIs: x", "\x00", "deb\thttp://x\tsid\tmain", "URIs: a\nURIs: b\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, e := range append(parseOneLine(data), parseDeb822Sources(data)...) {
			for _, list := range [][]string{e.uris, e.suites, e.components} {
				for _, s := range list {
					if s == "" || strings.ContainsAny(s, " \t\r\n") {
						t.Errorf("field %q", s)
					}
				}
			}
			if u := e.usableURI(); u != "" {
				if err := checkMirror(u); err != nil {
					t.Errorf("suggested %q: %v", u, err)
				}
			}
		}
	})
}
