package registry

import (
	"errors"
	"net/http"
	"testing"

	"dbuild/internal/fault"
)

func TestReferences(t *testing.T) {
	for ref, want := range map[string]string{
		"registry.example.org/a/b:c": "registry.example.org/a/b:c",
		"localhost/aa":               "localhost/aa:latest",
		"127.0.0.1:5000/aa":          "127.0.0.1:5000/aa:latest",
		"bookworm":                   "",
		"dbuild/bookworm":            "",
		"registry.example.org/A B":   "",
		"":                           "",
	} {
		got, err := parse(ref)
		switch {
		case want == "" && fault.ClassOf(err) != fault.Usage:
			t.Errorf("%q: got %v, %v", ref, got, err)
		case want != "" && (err != nil || got.String() != ref && got.Name() != want):
			t.Errorf("%q: got %v, %v", ref, got, err)
		}
	}
}

// answers is a network on which every request arrives.
type answers struct{}

var errArrived = errors.New("arrived")

func (answers) RoundTrip(*http.Request) (*http.Response, error) { return nil, errArrived }

// The library falls back to plain HTTP for private networks and for names that
// look local; this must not happen.
func TestPlainHTTP(t *testing.T) {
	for url, want := range map[string]error{
		"https://registry.example.org/v2/": errArrived,
		"http://127.0.0.1:5000/v2/":        errArrived,
		"http://[::1]:5000/v2/":            errArrived,
		"http://localhost:5000/v2/":        errArrived,
		"http://192.168.1.1:5000/v2/":      errPlain,
		"http://10.0.0.1/v2/":              errPlain,
		"http://registry.local/v2/":        errPlain,
		"http://localhost.example.org/v2/": errPlain,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		for insecure, want := range map[bool]error{false: want, true: errArrived} {
			_, err := (&guard{answers{}, insecure}).RoundTrip(r) //nolint:bodyclose // there is none
			if !errors.Is(err, want) {
				t.Errorf("%s, insecure %v: %v", url, insecure, err)
			}
		}
	}
}

func TestNothingListens(t *testing.T) {
	_, err := Find(t.Context(), "127.0.0.1:1/aa", Options{})
	if fault.ClassOf(err) != fault.Network {
		t.Errorf("got %v", err)
	}
}
