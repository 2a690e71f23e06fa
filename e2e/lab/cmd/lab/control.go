package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spillway-dev/spillway/e2e/lab"
)

// The control protocol is HTTP and JSON over the socket in the state
// directory, which only the lab's user can reach:
//
//	GET  /status                              status
//	POST /clusters/{cluster}/link             linkRequest
//	POST /clusters/{cluster}/{kill,restart}   nameRequest
//	GET  /clusters/{cluster}/requests         []lab.RequestCount
//
// An error is a status above 299 with one sentence.

type linkRequest struct {
	Cut     lab.CutMode    `json:"cut,omitempty"`
	RTT     *time.Duration `json:"rtt,omitempty"`
	Restore bool           `json:"restore,omitempty"`
}

type nameRequest struct {
	Name string `json:"name"`
}

// clusterStatus is what only the owner knows about a cluster.
type clusterStatus struct {
	Name       string            `json:"name"`
	Link       lab.LinkState     `json:"link"`
	Components []componentStatus `json:"components"`
}

type componentStatus struct {
	Name       string  `json:"name"`
	PID        int     `json:"pid"`
	Running    bool    `json:"running"`
	CPUSeconds float64 `json:"cpuSeconds"`
	RSS        int64   `json:"rss"` // bytes
	Log        string  `json:"log"`
}

func newControl(l *lab.Lab) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { reply(w, clusterStatuses(l), nil) })
	on := func(pattern string, do func(*http.Request, *lab.Cluster) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			c := l.Cluster(r.PathValue("cluster"))
			if c == nil {
				reply(w, nil, fmt.Errorf("lab %s has no cluster %q, only %s", l.Name(), r.PathValue("cluster"), clusterNames(l)))
				return
			}
			answer, err := do(r, c)
			reply(w, answer, err)
		})
	}
	on("POST /clusters/{cluster}/link", changeLink)
	on("POST /clusters/{cluster}/kill", func(r *http.Request, c *lab.Cluster) (any, error) {
		name, err := body[nameRequest](r)
		return struct{}{}, errors.Join(err, c.Kill(r.Context(), name.Name))
	})
	on("POST /clusters/{cluster}/restart", func(r *http.Request, c *lab.Cluster) (any, error) {
		name, err := body[nameRequest](r)
		return struct{}{}, errors.Join(err, c.Restart(r.Context(), name.Name))
	})
	on("GET /clusters/{cluster}/requests", func(r *http.Request, c *lab.Cluster) (any, error) {
		return c.Requests(r.Context())
	})
	return mux
}

func changeLink(r *http.Request, c *lab.Cluster) (any, error) {
	ask, err := body[linkRequest](r)
	switch {
	case err != nil:
	case ask.Restore:
		err = c.Link().Restore()
	case ask.RTT != nil:
		err = c.Link().Slow(*ask.RTT)
	default:
		err = c.Link().Cut(ask.Cut)
	}
	return c.Link().State(), err
}

func clusterNames(l *lab.Lab) string {
	var names []string
	for _, c := range l.Clusters() {
		names = append(names, c.Name())
	}
	return strings.Join(names, ", ")
}

func clusterStatuses(l *lab.Lab) []clusterStatus {
	var all []clusterStatus
	for _, c := range l.Clusters() {
		s := clusterStatus{Name: c.Name(), Link: c.Link().State()}
		for _, name := range c.Components() {
			p := c.Component(name)
			u, _ := p.Usage() // zero if it just ended
			s.Components = append(s.Components, componentStatus{
				Name: name, PID: p.PID(), Running: p.Running(), CPUSeconds: u.CPU.Seconds(), RSS: u.RSS, Log: p.Log(),
			})
		}
		all = append(all, s)
	}
	return all
}

func body[T any](r *http.Request) (T, error) {
	var v T
	return v, json.NewDecoder(r.Body).Decode(&v)
}

func reply(w http.ResponseWriter, answer any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // the client is gone, then
}

// call asks the owner of the lab of that name: to tell something (GET, ask is nil) or to do something (POST). answer may
// be nil.
func call(ctx context.Context, name string, path []string, ask, answer any) error {
	method := http.MethodGet
	if ask != nil {
		method = http.MethodPost
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socketPath(name))
	}}}
	defer client.CloseIdleConnections()
	data, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	for i := range path {
		path[i] = url.PathEscape(path[i])
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://lab/"+strings.Join(path, "/"), bytes.NewReader(data))
	if err != nil {
		return err
	}
	response, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("the owner of lab %s does not answer (%w): is it a test's lab, or has it died? See `lab status`", name, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("read from the owner of lab %s: %w", name, err)
	}
	if response.StatusCode >= 300 {
		return errors.New(strings.TrimSpace(string(text)))
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}
