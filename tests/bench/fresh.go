package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// warmPackage is built by the rows of parts of a warm build.
const warmPackage = "sample-few"

// freshRows measure what a build with everything cached does before it unpacks
// its source, and what the archive's freshness costs.
func (l *lab) freshRows() []row {
	return []row{
		{"Warm build, from the start of the process to the unpacking", "dbuild at most 0.06 s without the archive check", []contender{
			l.part("dbuild", func(o *outcome) float64 {
				return o.Timings["start"] + o.Timings["container"] - o.Timings["archive-check"]
			}),
			l.part("dbuild --max-age, archive check included", func(o *outcome) float64 { return o.Timings["start"] + o.Timings["container"] }, maxAge...),
			l.part("walk of the image, beside it", func(o *outcome) float64 { return o.Timings["image-check"] }, maxAge...),
		}},
		{"Archive check when nothing changed", "dbuild at most one round trip and 0.02 s", []contender{
			l.roundTrip(),
			l.part("dbuild", func(o *outcome) float64 { return o.Timings["archive-check"] }),
			l.part("dbuild --max-age", func(o *outcome) float64 { return o.Timings["archive-check"] }, maxAge...),
		}},
		{"The same package once more, with its result at hand", "", []contender{l.reuse()}},
	}
}

// maxAge lets the archive be for the time of the benchmark.
var maxAge = []string{"--max-age", "12h"}

// part is a part of a warm build.
func (l *lab) part(name string, seconds func(*outcome) float64, args ...string) contender {
	state := l.path("dbuild-" + warmPackage)
	return contender{
		name:    name,
		prepare: func(ctx context.Context) error { return l.prepareWarm(ctx, state) },
		job: func(context.Context) (job, error) {
			j, err := l.partJob(state, warmPackage, func(o *outcome) (float64, error) {
				if o.Deps.Match != "hit" {
					return 0, fmt.Errorf("a %s of the image", o.Deps.Match)
				}
				return seconds(o), nil
			}, args...)
			done := j.done
			j.done = func(ctx context.Context, s *sample) error {
				err := done(ctx, s)
				s.stages = nil // the same for all parts
				return err
			}
			return j, err
		},
	}
}

// prepareWarm builds until nothing has to be made or checked for the first time.
func (l *lab) prepareWarm(ctx context.Context, state string) error {
	if err := l.writeSource(ctx, warmPackage, fewDepends); err != nil {
		return err
	}
	for range 2 {
		if err := l.buildOnce(ctx, state, warmPackage); err != nil {
			return err
		}
	}
	return nil
}

// reuse asks for a result that is there.
func (l *lab) reuse() contender {
	state := l.path("dbuild-" + warmPackage)
	return contender{
		name:    "dbuild --reuse",
		prepare: func(ctx context.Context) error { return l.prepareWarm(ctx, state) },
		job: func(context.Context) (job, error) {
			j, events, err := l.eventsJob(state, warmPackage, "--reuse")
			check := j.done
			j.done = func(ctx context.Context, s *sample) error {
				o, err := outcomeOf(events.Bytes())
				if err == nil && o.Reused == "" {
					err = errors.New("the result was not reused")
				}
				return errors.Join(err, check(ctx, s))
			}
			return j, err
		},
	}
}

// roundTrip asks a mirror whether each InRelease has changed since just now, all
// at once, on new connections.
func (l *lab) roundTrip() contender {
	return contender{
		name: "a conditional request for each InRelease",
		job: func(context.Context) (job, error) {
			client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment}}
			return job{
				call: func(ctx context.Context) error {
					g, ctx := errgroup.WithContext(ctx)
					for _, src := range l.sources {
						g.Go(func() error { return notModified(ctx, client, src.URL+"/dists/"+src.Suite+"/InRelease") })
					}
					return g.Wait()
				},
				done: func(context.Context, *sample) error { client.CloseIdleConnections(); return nil },
			}, nil
		},
	}
}

func notModified(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("If-Modified-Since", time.Now().UTC().Format(http.TimeFormat))
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}
