package wire

import (
	"bytes"
	"errors"
	"io"
	"math"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// messages returns one of each kind, filled with values that differ.
func messages() []Message {
	return []Message{
		&Setup{
			Version: 3, Root: RootOverlay, Processes: 7, Layers: []string{"b", "a"}, NoSUID: true, Trees: []string{"/run/x"}, Hostname: "h",
			Hosts: "127.0.0.1\n", ResolvConf: "r", PrivateNet: true,
			Confine: Confine{Caps: 1<<63 | 5, NoNewPrivs: true, SwallowSync: true, Compat: "386"},
		},
		&SetupResult{Result: Result{Failed, "why"}, Created: []string{"/a", ""}, Missing: []string{"m"}},
		&Run{
			Argv: []string{"a", "b c", "\xff"}, Env: []string{"A=1"}, Dir: "/d", UID: 1, GID: 2, Umask: 0o77, Stdin: true,
			Stdout: true, Stderr: true, TTY: true, Rows: 3, Cols: 4, Timeout: math.MaxInt64, Idle: 5,
		},
		&RunResult{Result: Result{NotFound, "t"}, Code: -1, Signal: 9, End: EndIdle, Limit: LimitDisk},
		&Put{Dir: "/x", Decoder: []string{"xz", "-dc"}, KeepDirs: true},
		&Entry{Name: "n", Type: '5', Link: "l", Mode: 0o7777, UID: 65535, GID: 3, Size: 1 << 40},
		&Get{Dir: "/x", Names: []string{"*"}, Files: 3, Bytes: 1 << 50},
		&FileHead{Name: "n", Mode: 0o644, Size: 7, MTime: -1},
		&Result{TooMuch, "text"},
		&Empty{},
	}
}

func TestRoundTrip(t *testing.T) {
	for _, m := range messages() {
		b := Marshal(m)
		got := reflect.New(reflect.TypeOf(m).Elem()).Interface().(Message)
		if err := Unmarshal(b, got); err != nil {
			t.Errorf("%T: %v", m, err)
		}
		if diff := cmp.Diff(m, got); diff != "" {
			t.Errorf("%T:\n%s", m, diff)
		}
		for n := range b {
			if err := Unmarshal(b[:n], got); !errors.Is(err, ErrProtocol) {
				t.Errorf("%T cut to %d of %d bytes: %v", m, n, len(b), err)
			}
		}
		if err := Unmarshal(append(b, 0), got); !errors.Is(err, ErrProtocol) {
			t.Errorf("%T with a byte too many: %v", m, err)
		}
	}
}

// TestEveryField: a field that the coder forgets stays zero in a round trip,
// so no field of the samples may be zero.
func TestEveryField(t *testing.T) {
	for _, m := range messages() {
		v := reflect.ValueOf(m).Elem()
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%T: sample has no value for %s", m, v.Type().Field(i).Name)
			}
		}
	}
}

func TestItems(t *testing.T) {
	var b []byte
	for i := range 3 {
		b = AppendItem(b, &Entry{Name: "name", Size: int64(i)})
	}
	r := bytes.NewReader(b)
	var scratch []byte
	for i := range 3 {
		var e Entry
		var err error
		if scratch, err = ReadItem(r, &e, scratch); err != nil || e.Size != int64(i) {
			t.Errorf("item %d: %+v, %v", i, e, err)
		}
	}
	if _, err := ReadItem(r, &Entry{}, scratch); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for name, bad := range map[string][]byte{"cut": b[:9], "huge": {0xff, 0xff, 0xff, 0xff, 1}} {
		if _, err := ReadItem(bytes.NewReader(bad), &Entry{}, nil); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	for i, m := range messages() {
		f.Add(i, Marshal(m))
	}
	f.Add(0, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, i int, b []byte) {
		all := messages()
		m := all[(i%len(all)+len(all))%len(all)]
		if Unmarshal(b, m) != nil {
			return
		}
		again := reflect.New(reflect.TypeOf(m).Elem()).Interface().(Message)
		if err := Unmarshal(Marshal(m), again); err != nil || !reflect.DeepEqual(m, again) {
			t.Errorf("accepted, but not a fixed point: %+v, %+v, %v", m, again, err)
		}
	})
}
