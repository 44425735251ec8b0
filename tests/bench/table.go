package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// table writes one row's comparison as a Markdown table.
func table(r row, results [][]sample) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n### %s\n\n", r.title)
	if r.goal != "" {
		fmt.Fprintf(&b, "Goal: %s.\n\n", r.goal)
	}
	b.WriteString("| | wall s | ratio | CPU s | largest process MiB | all wall values |\n|---|---|---|---|---|---|\n")
	for i, c := range r.contenders {
		samples := results[i]
		wall := median(samples, func(s sample) float64 { return s.wall.Seconds() })
		first := median(results[0], func(s sample) float64 { return s.wall.Seconds() })
		fmt.Fprintf(&b, "| %s | %.*f | %.2f | %s | %s | %s |\n", c.name, decimals(wall), wall, wall/first,
			orDash("%.2f", median(samples, func(s sample) float64 { return s.cpu.Seconds() })),
			orDash("%.0f", median(samples, func(s sample) float64 { return float64(s.peak) / (1 << 20) })), values(samples))
	}
	for i, c := range r.contenders {
		if text := stageLine(results[i]); text != "" {
			fmt.Fprintf(&b, "\nStages of %s, in s: %s.\n", c.name, text)
		}
		if c.name == "dbuild" && results[i][0].own > 0 {
			own := slices.MaxFunc(results[i], func(a, b sample) int { return cmp.Compare(a.own, b.own) }).own
			fmt.Fprintf(&b, "\nPeak memory of the dbuild process itself: %.0f MiB.\n", float64(own)/(1<<20))
		}
	}
	return b.String()
}

// orDash prints a number; 0 stands for what was not measured, since a part of a
// command has no memory or processor time of its own.
func orDash(format string, v float64) string {
	if v == 0 {
		return "–"
	}
	return fmt.Sprintf(format, v)
}

// decimals is how exactly seconds are printed.
func decimals(seconds float64) int {
	if seconds < 0.5 {
		return 3
	}
	return 2
}

// values lists the wall times of all rounds, in their order.
func values(samples []sample) string {
	text := make([]string, len(samples))
	for i, s := range samples {
		text[i] = fmt.Sprintf("%.*f", decimals(s.wall.Seconds()), s.wall.Seconds())
	}
	return strings.Join(text, ", ")
}

// stageOrder is the order of the nine stages.
var stageOrder = []string{"source", "base", "resolve", "deps", "build", "collect", "check", "sign", "publish"}

// stageLine lists the median of each stage; "" when the command tells none.
func stageLine(samples []sample) string {
	var parts []string
	for _, name := range stageOrder {
		known := slices.DeleteFunc(slices.Clone(samples), func(s sample) bool { _, ok := s.stages[name]; return !ok })
		if len(known) > 0 {
			parts = append(parts, fmt.Sprintf("%s %.2f", name, median(known, func(s sample) float64 { return s.stages[name] })))
		}
	}
	return strings.Join(parts, " · ")
}

// median returns the middle value, or the mean of the two in the middle.
func median(samples []sample, value func(sample) float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	all := make([]float64, len(samples))
	for i, s := range samples {
		all[i] = value(s)
	}
	slices.Sort(all)
	half := len(all) / 2
	if len(all)%2 == 1 {
		return all[half]
	}
	return (all[half-1] + all[half]) / 2
}
