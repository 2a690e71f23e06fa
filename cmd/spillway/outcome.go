package main

import (
	"errors"
	"strings"
)

// ending is what a command prints at its end with -o json or yaml.
type ending interface {
	// ended adds how the command went; bad is nil when it went well.
	ended(s *steps, bad *mishap)
}

// outcome is what peer and unpeer print with -o json or yaml.
type outcome struct {
	Command  string   `json:"command"` // peer or unpeer
	OK       bool     `json:"ok"`
	Changed  bool     `json:"changed"` // something was written to a cluster
	DryRun   bool     `json:"dryRun,omitempty"`
	Consumer *side    `json:"consumer,omitempty"`
	Provider *side    `json:"provider,omitempty"`
	Tunnel   *joined  `json:"tunnel,omitempty"`  // how peer joined the pod networks
	Nodes    []string `json:"nodes,omitempty"`   // the virtual nodes
	Pods     *fates   `json:"pods,omitempty"`    // what unpeer means for the pods on them
	Remains  []string `json:"remains,omitempty"` // what unpeer could not remove, and how to do it later
	Steps    []step   `json:"steps"`
	Error    *mishap  `json:"error,omitempty"`
	Seconds  float64  `json:"seconds"`
}

// side is one of the two clusters of a peering.
type side struct {
	Context   string `json:"context,omitempty"`
	Server    string `json:"server,omitempty"`
	ClusterID string `json:"clusterID,omitempty"`
	Peering   string `json:"peering,omitempty"` // name of the Peering in that cluster
}

// mishap is an error for machines.
type mishap struct {
	Message string `json:"message"`
	Action  string `json:"action,omitempty"`
}

// mishapOf describes err for machines.
func mishapOf(err error) *mishap {
	var p *problem
	if errors.As(err, &p) {
		return &mishap{Message: sentence(p.what), Action: sentence(p.do)}
	}
	return &mishap{Message: sentence(err.Error())}
}

// sideOf describes c, which holds the Peering of this name. Nil stays nil.
func sideOf(c *cluster, peering string) *side {
	if c == nil {
		return nil
	}
	return &side{Context: c.context, Server: c.server, ClusterID: c.id, Peering: peering}
}

// ended adds how the command went.
func (o *outcome) ended(s *steps, bad *mishap) {
	o.OK, o.Error, o.Changed, o.Steps, o.Seconds = bad == nil, bad, s.changed, s.done, seconds(s.took())
}

// conclude ends a command: see finish.
func conclude(t terminal, s *steps, format string, result outcome, err error) error {
	return finish(t, s, format, &result, err)
}

// finish ends a command: it adds to result what s saw, prints it where a machine reads along, and returns err with a word on
// what was changed.
func finish(t terminal, s *steps, format string, result ending, err error) error {
	var p *problem
	isUsage := errors.As(err, &p) && p.usage
	var bad *mishap
	if err != nil {
		bad = mishapOf(err)
	}
	if err != nil && !isUsage {
		if p == nil {
			p = &problem{what: err.Error(), cause: err}
		}
		err = &problem{what: p.what, do: strings.TrimSpace(sentence(p.do) + " " + s.whatChanged()), cause: err}
	}
	result.ended(s, bad)
	if format != "" && !isUsage {
		if printErr := printObject(t.out, format, result); printErr != nil && err == nil {
			err = printErr
		}
	}
	return asFailure(err)
}
