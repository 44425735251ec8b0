package archive

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"dbuild/internal/fault"
)

// errURL is wrapped by every refusal of [parseURL].
var errURL = errors.New("unusable URL")

// parseURL accepts what may be asked over the network: http or https with a
// host and a sane port, without control characters in any spelling. A line
// break in a redirect target once let servers dictate hashes to apt
// (CVE-2019-3462).
func parseURL(raw string) (*url.URL, error) {
	refuse := func(why string) (*url.URL, error) {
		return nil, fmt.Errorf("%w %q: %s", errURL, RedactURL(raw), why)
	}
	if len(raw) > 8192 {
		return nil, fmt.Errorf("%w: %d bytes long", errURL, len(raw))
	}
	for _, c := range []byte(raw) {
		if c <= ' ' || c >= 0x7f {
			return refuse("a blank, control or non-ASCII character")
		}
	}
	u, err := url.Parse(raw)
	if err != nil {
		return refuse("not a URL")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return refuse("only http and https are spoken")
	case u.Hostname() == "" || u.Opaque != "":
		return refuse("no host")
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return refuse("a fragment")
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return refuse("port out of range")
		}
	}
	query, err := url.PathUnescape(u.RawQuery)
	if err != nil {
		return refuse("malformed percent-encoding")
	}
	for _, c := range []byte(u.Path + query + u.Host) {
		if c < ' ' || c == 0x7f {
			return refuse("an encoded control character")
		}
	}
	return u, nil
}

// checkRedirect decides whether an answer from one place may send us to
// another: never from https to http, and never to an address that only this
// machine or this link gives a meaning to, unless we were there already.
func checkRedirect(from, to *url.URL) error {
	if _, err := parseURL(to.String()); err != nil {
		return err
	}
	if from.Scheme == "https" && to.Scheme != "https" {
		return fmt.Errorf("%w %q: redirect from https to http", errURL, RedactURL(to.String()))
	}
	addr, err := netip.ParseAddr(to.Hostname())
	if err != nil || from.Hostname() == to.Hostname() {
		return nil //nolint:nilerr // a name, or where we are already
	}
	if addr = addr.Unmap(); addr.IsLinkLocalUnicast() || addr.IsUnspecified() || addr.IsMulticast() || addr.IsLoopback() {
		return fmt.Errorf("%w %q: redirect to a local address", errURL, to.Host)
	}
	return nil
}

// checkMirror accepts an archive root given by the user.
func checkMirror(raw string) error {
	u, err := parseURL(raw)
	if err == nil && (u.RawQuery != "" || u.ForceQuery) {
		err = fmt.Errorf("%w %q: a query", errURL, RedactURL(raw))
	}
	if err != nil {
		return fault.WithHint(fault.Wrap(fault.Usage, fmt.Errorf("mirror: %w", err)),
			"give an archive root such as http://ftp.debian.org/debian")
	}
	return nil
}

// RedactURL returns raw without user name, password and query, for messages
// and records. It never fails: of what cannot be read it shows too little
// rather than too much.
func RedactURL(raw string) string {
	raw, _, _ = strings.Cut(raw, "?")
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return raw[strings.LastIndexByte(raw, '@')+1:]
	}
	authority, _, _ := strings.Cut(rest, "/")
	port := ""
	if colon := strings.LastIndexByte(authority, ':'); colon >= 0 {
		port = authority[colon+1:]
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		rest = rest[at+1:]
	} else if strings.Trim(port, "0123456789]") != "" {
		// A password with a slash in it: what looks like a port is none.
		rest = rest[strings.LastIndexByte(rest, '@')+1:]
	}
	return scheme + "://" + rest
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Hostname()
}
