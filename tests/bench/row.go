package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// contender is one way to do a row's work.
type contender struct {
	name string

	// prepare makes what may exist before the measured command: chroots, warm
	// caches. It runs once.
	prepare func(ctx context.Context) error

	// job makes a clean place for one run and says what to measure there.
	job func(ctx context.Context) (job, error)
}

// job is one measured run.
type job struct {
	commands []command                                  // run one after the other, their times added
	call     func(ctx context.Context) error            // in place of commands
	done     func(ctx context.Context, s *sample) error // checks the result and clears up; not measured
}

// row compares contenders; the first is what the others are divided by.
type row struct {
	title      string
	goal       string // of the issue, "" for none
	contenders []contender
}

// measure prepares all contenders and lets them take turns.
func (r row) measure(ctx context.Context, lab *lab, rounds int) ([][]sample, error) {
	for _, c := range r.contenders {
		if c.prepare == nil {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s: prepare %s\n", r.title, c.name)
		if err := c.prepare(ctx); err != nil {
			return nil, fmt.Errorf("prepare %s: %w", c.name, err)
		}
	}
	results := make([][]sample, len(r.contenders))
	for round := range rounds {
		for i, c := range r.contenders {
			s, err := lab.runJob(ctx, c)
			if err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", c.name, round+1, err)
			}
			fmt.Fprintf(os.Stderr, "%s: round %d, %s: %s\n", r.title, round+1, c.name, s)
			results[i] = append(results[i], s)
		}
	}
	return results, nil
}

// runJob makes, measures and clears one job.
func (l *lab) runJob(ctx context.Context, c contender) (s sample, err error) {
	if err := checkTmpfs(l.dir); err != nil {
		return s, err
	}
	j, err := c.job(ctx)
	if err != nil {
		return s, err
	}
	for _, cmd := range j.commands {
		one, err := l.runCommand(ctx, cmd)
		if err != nil {
			return s, err
		}
		s = s.plus(one)
	}
	if j.call != nil {
		s.start = time.Now()
		if err := j.call(ctx); err != nil {
			return s, err
		}
		s.wall = time.Since(s.start)
	}
	if j.done != nil {
		err = j.done(ctx, &s)
	}
	return s, err
}
