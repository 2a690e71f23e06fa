// Package load asks a URL at a steady rate, each time over a connection of its own, and counts what comes of it: how many answers, from
// whom, and what failed. It knows nothing of clusters; who answers is what the lab's app says of itself (its lines node and pod).
//
//	err := load.Run(ctx, load.Options{URL: "http://10.2.0.7/", Rate: 200, Timeout: 2 * time.Second}, os.Stdout) // a line per second
//
// The lines are read by a Tally.
package load

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Options of Run. All must be given.
type Options struct {
	URL string
	// Rate is how many requests begin in a second.
	Rate int
	// Timeout is how long one may take before it has failed.
	Timeout time.Duration
}

// Second is what ended within one second, a line of JSON.
type Second struct {
	At     time.Time `json:"at"`
	OK     int       `json:"ok"`
	Failed int       `json:"failed"`
	// Nodes and Pods are who gave the answers.
	Nodes map[string]int `json:"nodes,omitempty"`
	Pods  map[string]int `json:"pods,omitempty"`
	// Slowest answer, in milliseconds.
	Slowest int64 `json:"slowest"`
	// Errors are the first that there were, a few of them.
	Errors []string `json:"errors,omitempty"`
}

const (
	tick       = 5 * time.Millisecond
	mostErrors = 5 // of a second that are told
)

// answer is what came of one request.
type answer struct {
	node, pod string
	took      time.Duration
	err       error
}

// Run asks until ctx ends, and writes a line for each second. What is under way then is waited for.
func Run(ctx context.Context, o Options, out io.Writer) error {
	client := &http.Client{Timeout: o.Timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	ended := make(chan answer, o.Rate)
	told := make(chan error, 1)
	go func() { told <- tell(ended, out) }()
	var asked sync.WaitGroup
	pace := time.NewTicker(tick)
	defer pace.Stop()
	for began, sent := time.Now(), 0; ctx.Err() == nil; {
		for due := int(time.Since(began).Seconds() * float64(o.Rate)); sent < due; sent++ {
			asked.Go(func() { ended <- ask(client, o.URL) })
		}
		select {
		case <-ctx.Done():
		case <-pace.C:
		}
	}
	asked.Wait()
	close(ended)
	return <-told
}

// tell writes a line for each second until there are no more answers.
func tell(ended <-chan answer, out io.Writer) error {
	lines := json.NewEncoder(out)
	every := time.NewTicker(time.Second)
	defer every.Stop()
	var now Second
	for {
		select {
		case a, more := <-ended:
			if more {
				now.add(a)
				continue
			}
			now.At = time.Now()
			return lines.Encode(now)
		case now.At = <-every.C:
			if err := lines.Encode(now); err != nil {
				return err
			}
			now = Second{}
		}
	}
}

func (s *Second) add(a answer) {
	s.Slowest = max(s.Slowest, a.took.Milliseconds())
	if a.err != nil {
		s.Failed++
		if len(s.Errors) < mostErrors {
			s.Errors = append(s.Errors, fmt.Sprintf("%s: %s", time.Now().Add(-a.took).UTC().Format("15:04:05.000"), a.err))
		}
		return
	}
	s.OK++
	if s.Nodes == nil {
		s.Nodes, s.Pods = map[string]int{}, map[string]int{}
	}
	s.Nodes[a.node]++
	s.Pods[a.pod]++
}

// ask makes one request; the client's timeout ends it.
func ask(client *http.Client, url string) (a answer) {
	began := time.Now()
	defer func() { a.took = time.Since(began) }()
	response, err := client.Get(url)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("answered %s", response.Status)
	}
	a.err = err
	for line := range strings.Lines(string(body)) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), ": "); key {
		case "node":
			a.node = value
		case "pod":
			a.pod = value
		}
	}
	return a
}
