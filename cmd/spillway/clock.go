package main

import (
	"net/http"
	"sync/atomic"
	"time"
)

// serverClock tells the time of a cluster, learnt from the Date header of its answers: whether a Lease is fresh must
// not depend on the clock of the user's machine. Precise to about a second. Safe for concurrent use.
type serverClock struct {
	ahead atomic.Int64 // nanoseconds by which the server is ahead of this machine
}

// now is the cluster's time, or this machine's when the cluster has not answered yet.
func (c *serverClock) now() time.Time {
	return time.Now().Add(time.Duration(c.ahead.Load()))
}

func (c *serverClock) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		response, err := next.RoundTrip(request)
		if err != nil {
			return response, err
		}
		if date, parseErr := http.ParseTime(response.Header.Get("Date")); parseErr == nil {
			c.ahead.Store(int64(time.Until(date)))
		}
		return response, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }
