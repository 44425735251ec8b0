package archive

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"

	"dbuild/internal/fault"
)

// Reasons for which a transfer ends. They are wrapped by [TransferError].
var (
	errStalled    = errors.New("no data for too long")
	errTooSlow    = errors.New("slower than the minimum rate")
	errPortal     = errors.New("a web page came instead of the file")
	errProxyAuth  = errors.New("the proxy asks for credentials")
	errRedirects  = errors.New("too many redirects")
	errOffline    = errors.New("offline")
	errRange      = errors.New("the answer is another part of the file")
	errUnasked304 = errors.New("the answer is \"not modified\" to a question without a condition")
	errTruncated  = errors.New("the connection ended early")
	errTooLong    = errors.New("the answer is longer than allowed")
)

// TransferError is a failed request. Its class is [fault.Network].
type TransferError struct {
	URL    string // redacted
	Status int    // of the answer; 0 when there was none
	Err    error
	retry  bool
}

// Error names the URL and the reason.
func (e *TransferError) Error() string { return fmt.Sprintf("fetch %q: %v", e.URL, e.Err) }

// Unwrap returns the reason.
func (e *TransferError) Unwrap() error { return e.Err }

// fail turns the error of a request into a TransferError. A request whose
// context has a cause to end, failed for that cause: the caller's, or our watch.
func (c *client) fail(cause error, q request, status int, err error) error {
	if cause != nil {
		if !errors.Is(cause, errStalled) && !errors.Is(cause, errTooSlow) {
			return cause
		}
		err = cause
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // its own text would show the URL a second time
	}
	t := &TransferError{URL: RedactURL(q.url), Status: status, Err: err, retry: temporary(status, err)}
	e := fault.Wrap(fault.Network, t)
	switch {
	case errors.Is(err, errProxyAuth):
		return fault.WithHint(e, "put user name and password into http_proxy")
	case errors.Is(err, errPortal):
		return fault.WithHint(e, "log in to this network with a browser, or set http_proxy")
	case errors.Is(err, errOffline):
		return fault.WithHint(e, "run once without --offline")
	}
	return e
}

// temporary says whether asking again can help: not when the server said a
// clear no, the name does not exist, the certificate is wrong or the answer is
// against our rules.
func temporary(status int, err error) bool {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	switch {
	case status >= 500:
		return true
	case status >= 400:
		return errors.Is(err, errRange)
	case errors.As(err, &dns) && dns.IsNotFound:
		return false
	case errors.As(err, &cert), errors.As(err, &unknown):
		return false
	case errors.Is(err, errURL), errors.Is(err, errRedirects), errors.Is(err, errOffline),
		errors.Is(err, errPortal), errors.Is(err, errProxyAuth), errors.Is(err, errTooLong), errors.Is(err, errUnasked304):
		return false
	}
	return true
}
