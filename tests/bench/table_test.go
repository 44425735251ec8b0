package main

import (
	"strings"
	"testing"
	"time"
)

func seconds(values ...float64) []sample {
	var all []sample
	for _, v := range values {
		all = append(all, sample{wall: time.Duration(v * float64(time.Second))})
	}
	return all
}

func TestMedian(t *testing.T) {
	tests := []struct {
		name   string
		values []float64
		want   float64
	}{
		{"none", nil, 0},
		{"one", []float64{3}, 3},
		{"odd, unsorted", []float64{9, 1, 2}, 2},
		{"even", []float64{4, 1, 2, 9}, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := median(seconds(tt.values...), func(s sample) float64 { return s.wall.Seconds() }); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestTableDividesByTheFirst(t *testing.T) {
	r := row{title: "Row", goal: "fast", contenders: []contender{{name: "plain"}, {name: "dbuild"}}}
	ours := seconds(3, 3, 6)
	ours[0].stages, ours[0].own = map[string]float64{"build": 2.5, "source": 0.25}, 96<<20
	got := table(r, [][]sample{seconds(2, 8, 2), ours})
	for _, want := range []string{
		"### Row", "Goal: fast.",
		"| plain | 2.00 | 1.00 |", "| 2.00, 8.00, 2.00 |",
		"| dbuild | 3.00 | 1.50 |",
		"Stages of dbuild, in s: source 0.25 · build 2.50.",
		"Peak memory of the dbuild process itself: 96 MiB.",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestOutcomeOf(t *testing.T) {
	tests := []struct {
		name, events string
		want         float64
		fails        bool
	}{
		{"result last", "{\"event\":\"stage-end\"}\n{\"event\":\"result\",\"stages\":{\"build\":1.5}}\n", 1.5, false},
		{"no result", "{\"event\":\"stage-end\",\"stages\":{\"build\":1.5}}\n", 0, true},
		{"no stages", "{\"event\":\"result\"}\n", 0, true},
		{"not JSON", "hello\n", 0, true},
		{"nothing", "", 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := outcomeOf([]byte(tt.events))
			if (err != nil) != tt.fails || err == nil && got.Stages["build"] != tt.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}
