package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// problem is an error for people: one sentence on what is wrong, and what to do about it.
type problem struct {
	what  string
	do    string
	usage bool  // the command line itself is wrong
	cause error // may be nil
}

// Error returns both sentences.
func (p *problem) Error() string {
	switch {
	case p.do == "":
		return sentence(p.what)
	case strings.Contains(p.what, "\n"): // a list
		return p.what + "\n" + sentence(p.do)
	}
	return sentence(p.what) + " " + sentence(p.do)
}

func (p *problem) Unwrap() error { return p.cause }

// problemf makes a problem: do says what to do, format and args say what is wrong.
func problemf(do, format string, args ...any) *problem {
	return &problem{what: fmt.Sprintf(format, args...), do: do}
}

// usagef makes a problem with the command line: do says what to do, format and args say what is wrong.
func usagef(do, format string, args ...any) *problem {
	return &problem{what: fmt.Sprintf(format, args...), do: do, usage: true}
}

// sentence ends text with a full stop unless it ends a sentence already.
func sentence(text string) string {
	text = strings.TrimSpace(text)
	if text == "" || strings.ContainsAny(text[len(text)-1:], ".!?\n") {
		return text
	}
	return text + "."
}

// explain turns an error of c's API server into a problem. deed says what was tried, for example "read Peering x".
// A problem stays as it is; nil stays nil.
func explain(c *cluster, deed string, err error) error {
	var p *problem
	switch {
	case err == nil:
		return nil
	case errors.As(err, &p):
		return err
	case apierrors.IsUnauthorized(err):
		p = problemf(fmt.Sprintf("Log in again or repair the user of that context; `kubectl --context %s auth whoami` shows whether it works.", c.context),
			"the API server of %s at %s does not accept your credential: it is missing, expired or invalid", c.title(), c.server)
	case apierrors.IsForbidden(err):
		p = problemf("Ask an administrator of that cluster for this right, or use a context that has it.",
			"you may not %s in %s: %s", deed, c.title(), serverWords(err))
	case errors.Is(err, context.Canceled):
		p = problemf("Run the same command again to go on.", "interrupted while trying to %s", deed)
	case unreachable(err):
		p = problemf("Check that the cluster is running and that the server address in the kubeconfig is right.",
			"the API server of %s at %s does not answer: %s", c.title(), c.server, networkWords(err))
	case untrusted(err):
		p = problemf("Check the server address and certificate-authority-data of that context in the kubeconfig.",
			"the certificate of %s at %s is not trusted: %s", c.title(), c.server, networkWords(err))
	default:
		p = problemf("", "cannot %s in %s: %s", deed, c.title(), serverWords(err))
	}
	p.cause = err
	return p
}

// unreachable says whether err means that nothing answered at all.
func unreachable(err error) bool {
	if untrusted(err) {
		return false
	}
	var netErr net.Error
	var opErr *net.OpError
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &opErr) || errors.As(err, &netErr) && netErr.Timeout()
}

func untrusted(err error) bool {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid)
}

// networkWords is the innermost useful text of a network error, without the request around it.
func networkWords(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer within %d s", int(reachTimeout/time.Second))
	}
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		err = urlErr.Err
	}
	return err.Error()
}

// serverWords is the message of an API server's error, or the text of any other.
func serverWords(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Message != "" {
		return status.Status().Message
	}
	return err.Error()
}
