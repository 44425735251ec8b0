package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"

	"dbuild/internal/fault"
)

// limits bound one transfer and its repetition.
type limits struct {
	header  time.Duration // until the answer begins, redirects included
	idle    time.Duration // between two pieces of it
	rate    int64         // bytes per second, averaged over window
	window  time.Duration
	backoff []time.Duration // pause before each retry
	update  []time.Duration // pause before asking a mirror again that is being updated
}

func defaultLimits() limits {
	return limits{
		header:  30 * time.Second,
		idle:    30 * time.Second,
		rate:    512,
		window:  30 * time.Second,
		backoff: []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second},
		update:  []time.Duration{3 * time.Second, 6 * time.Second},
	}
}

// client asks one question at a time over HTTP, within limits.
type client struct {
	http    *http.Client
	limits  limits
	offline bool
}

// newHTTPClient returns a client that honours http_proxy, https_proxy and
// no_proxy as they are now, bounds headers and redirects, and never asks for
// a transparent compression, which would hide sizes.
func newHTTPClient(parallel int) *http.Client {
	proxy := httpproxy.FromEnvironment().ProxyFunc()
	dialer := &net.Dialer{Timeout: 15 * time.Second}
	t := &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) {
			u, err := proxy(r.URL)
			if err != nil {
				// The text of err may hold the proxy's password.
				return nil, errors.New("the proxy setting of the environment is not a URL")
			}
			return u, nil
		},
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, res *http.Response) error {
			if res.StatusCode == http.StatusProxyAuthRequired {
				return errProxyAuth
			}
			return nil
		},
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    15 * time.Second,
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConns:           4 * parallel,
		MaxIdleConnsPerHost:    parallel,
		MaxResponseHeaderBytes: 256 << 10,
		ReadBufferSize:         64 << 10,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
	}
	return &http.Client{Transport: t}
}

// guardRedirects returns a copy of c that follows at most five redirects, and
// only those that [checkRedirect] allows.
func guardRedirects(c *http.Client) *http.Client {
	guarded := *c
	guarded.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) > 5 {
			return errRedirects
		}
		return checkRedirect(via[len(via)-1].URL, req.URL)
	}
	return &guarded
}

// request is one question.
type request struct {
	url      string
	offset   int64  // ask for the rest from here
	etag     string // ask only for something else than this …
	modified string // … or something newer than this
	fresh    bool   // pass by caches
}

// response is the beginning of an answer. Its body fails with a
// [TransferError] when it stalls, drips or breaks off.
type response struct {
	status         int
	total          int64 // size of the whole file if announced, else -1
	offset         int64 // where the body starts in it
	etag, modified string
	body           io.ReadCloser
}

// open asks and waits for the answer to begin. Statuses other than 200, 304
// and the 206 that was asked for are errors.
func (c *client) open(ctx context.Context, q request) (*response, error) {
	if strings.HasPrefix(q.url, localPrefix) {
		return openLocal(q)
	}
	u, err := parseURL(q.url)
	if err != nil {
		return nil, fault.Wrap(fault.Input, err)
	}
	if c.offline {
		return nil, c.fail(context.Cause(ctx), q, 0, errOffline)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		cancel(nil)
		return nil, fault.Wrap(fault.Input, fmt.Errorf("%w %q", errURL, RedactURL(q.url)))
	}
	q.headers(req.Header)
	watch := time.AfterFunc(c.limits.header, func() { cancel(errStalled) })
	res, err := c.http.Do(req) //nolint:bodyclose // the caller of open closes it
	watch.Stop()
	if err != nil {
		err = c.fail(context.Cause(ctx), q, 0, err)
		cancel(nil)
		return nil, err
	}
	r := &response{
		status:   res.StatusCode,
		total:    res.ContentLength,
		etag:     res.Header.Get("ETag"),
		modified: res.Header.Get("Last-Modified"),
		body: &guardedBody{
			body:   res.Body,
			limits: c.limits,
			cancel: cancel,
			fail:   func(err error) error { return c.fail(context.Cause(ctx), q, 0, err) },
		},
	}
	if err := r.judge(q, res); err != nil {
		err = c.fail(context.Cause(ctx), q, res.StatusCode, err)
		return nil, errors.Join(err, r.body.Close())
	}
	return r, nil
}

func (q request) headers(h http.Header) {
	h.Set("User-Agent", "dbuild")
	if q.offset > 0 {
		h.Set("Range", "bytes="+strconv.FormatInt(q.offset, 10)+"-")
	}
	if q.etag != "" {
		h.Set("If-None-Match", q.etag)
	}
	if q.modified != "" {
		h.Set("If-Modified-Since", q.modified)
	}
	if q.fresh {
		h.Set("Cache-Control", "no-cache")
		h.Set("Pragma", "no-cache")
	} else if q.etag+q.modified != "" {
		h.Set("Cache-Control", "max-age=0")
	}
}

// judge fills in what the status says and refuses answers to other questions.
func (r *response) judge(q request, res *http.Response) error {
	switch res.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusNotModified:
		if q.etag+q.modified == "" {
			return errUnasked304
		}
		return nil
	case http.StatusPartialContent:
		start, total, ok := parseContentRange(res.Header.Get("Content-Range"))
		if !ok || q.offset == 0 || start != q.offset {
			return errRange
		}
		r.offset, r.total = start, total
		return nil
	case http.StatusRequestedRangeNotSatisfiable:
		return errRange
	case http.StatusProxyAuthRequired:
		return errProxyAuth
	}
	return fmt.Errorf("the server answers %d %s", res.StatusCode, http.StatusText(res.StatusCode))
}

// parseContentRange reads "bytes FIRST-LAST/TOTAL"; total is -1 for "*".
func parseContentRange(s string) (start, total int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	span, size, ok2 := strings.Cut(s, "/")
	first, _, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, false
	}
	start, err := strconv.ParseInt(first, 10, 64)
	if err != nil || start < 0 {
		return 0, 0, false
	}
	if size == "*" {
		return start, -1, true
	}
	total, err = strconv.ParseInt(size, 10, 64)
	return start, total, err == nil && total >= start
}

// retry calls fn until it succeeds, fails for good, or has failed temporarily
// once more than there are pauses.
func (c *client) retry(ctx context.Context, fn func() error) error {
	for _, pause := range c.limits.backoff {
		err := fn()
		var t *TransferError
		if !errors.As(err, &t) || !t.retry {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
	return fn()
}
