package session

import (
	"errors"
	"strings"
	"testing"

	"dbuild/engine"
)

func TestOrder(t *testing.T) {
	type call struct {
		name string
		do   func(*Order) error
	}
	calls := map[byte]call{
		'p': {"put", func(o *Order) error { return o.Put(false) }},
		's': {"put in a scratch container", func(o *Order) error { return o.Put(true) }},
		'r': {"run", (*Order).Run},
		'q': {"quiesce", (*Order).Quiet},
		'n': {"failed quiesce", func(o *Order) error { o.NotQuiet(); return nil }},
		'g': {"get", (*Order).Get},
		'c': {"commit", (*Order).Commit},
		'k': {"keep", (*Order).Keep},
		'e': {"end", func(o *Order) error { o.End(); return nil }},
	}
	for _, x := range []struct {
		calls string // the last one fails if bad is set
		bad   bool
		is    error
		words string
	}{
		{calls: "pprqgqgc"}, {calls: "srsqsqc"}, {calls: "k"}, {calls: "rk"}, {calls: "eee"},
		{calls: "rp", bad: true, words: "has run steps"},
		{calls: "qp", bad: true, words: "has run steps"},
		{calls: "g", bad: true, is: engine.ErrNotQuiet},
		{calls: "qrg", bad: true, is: engine.ErrNotQuiet},
		{calls: "qng", bad: true, is: engine.ErrNotQuiet},
		{calls: "rc", bad: true, is: engine.ErrNotQuiet},
		{calls: "qsc", bad: true, is: engine.ErrNotQuiet},
		{calls: "qcr", bad: true, words: "has ended"},
		{calls: "eq", bad: true, words: "has ended"},
	} {
		t.Run(x.calls, func(t *testing.T) {
			var o Order
			for i := range x.calls {
				err := calls[x.calls[i]].do(&o)
				if last := i == len(x.calls)-1; !last || !x.bad {
					if err != nil {
						t.Fatalf("%s: %v", calls[x.calls[i]].name, err)
					}
					continue
				}
				if err == nil || x.is != nil && !errors.Is(err, x.is) || !strings.Contains(err.Error(), x.words) {
					t.Errorf("%s: %v, want %v %q", calls[x.calls[i]].name, err, x.is, x.words)
				}
				if x.is == nil && errors.Is(err, engine.ErrNotQuiet) {
					t.Errorf("%s: %v is ErrNotQuiet", calls[x.calls[i]].name, err)
				}
			}
		})
	}
}
