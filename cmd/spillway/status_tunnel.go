package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// tunnelRow is how the networks of one Peering are joined.
type tunnelRow struct {
	Mode       string     `json:"mode"`
	Up         string     `json:"up,omitempty"`    // status of TunnelUp; empty: does not apply
	Since      *time.Time `json:"since,omitempty"` // when up became what it is
	APIAddress string     `json:"apiAddress,omitempty"`
	Aliases    []aliasRow `json:"aliases,omitempty"`
	Paths      []pathRow  `json:"paths,omitempty"`
}

// aliasRow is a range of one cluster that the other sees under another.
type aliasRow struct {
	Of    string `json:"of"` // peer or us: whose range it is
	Range string `json:"range"`
	As    string `json:"as"`
}

// pathRow is the tunnel between gateway slots of one number.
type pathRow struct {
	Slot          int32      `json:"slot"`
	Node          string     `json:"node"`
	Up            bool       `json:"up"`
	Reason        string     `json:"reason,omitempty"`
	Transport     string     `json:"transport,omitempty"`
	Endpoint      string     `json:"endpoint,omitempty"`
	RTTMicros     int64      `json:"rttMicros,omitempty"`
	LossPercent   int32      `json:"lossPercent"`
	MTU           int32      `json:"mtu,omitempty"`
	ReceivedBytes int64      `json:"receivedBytes"`
	SentBytes     int64      `json:"sentBytes"`
	Since         *time.Time `json:"since,omitempty"`
}

// describeTunnel sums up how p's networks are joined; nil: nothing is said about it.
func describeTunnel(p *v1alpha1.Peering) *tunnelRow {
	if p.Spec.Tunnel == nil {
		return nil
	}
	r := &tunnelRow{Mode: string(modeOf(p))}
	if up := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionTunnelUp); up != nil {
		r.Up, r.Since = string(up.Status), instant(up.LastTransitionTime)
	}
	r.Aliases = aliasesOf("peer", p.Spec.Tunnel.Aliases)
	if remote := p.Spec.Tunnel.Remote; remote != nil {
		r.Aliases = append(r.Aliases, aliasesOf("us", remote.Aliases)...)
	}
	if p.Status.Tunnel == nil {
		return r
	}
	r.APIAddress = p.Status.Tunnel.APIAddress
	for _, path := range p.Status.Tunnel.Paths {
		row := pathRow{
			Slot: path.Slot, Node: path.Node, Up: path.Up, Reason: path.Reason, Transport: path.Transport, Endpoint: path.Endpoint,
			LossPercent: path.LossPercent, MTU: path.MTU, ReceivedBytes: path.ReceivedBytes, SentBytes: path.SentBytes, Since: instant(path.LastChangeTime),
		}
		if path.RTT != nil {
			row.RTTMicros = path.RTT.Microseconds()
		}
		r.Paths = append(r.Paths, row)
	}
	return r
}

func aliasesOf(whose string, aliases []v1alpha1.Alias) []aliasRow {
	var rows []aliasRow
	for _, a := range aliases {
		if a.Range != a.As {
			rows = append(rows, aliasRow{whose, a.Range, a.As})
		}
	}
	return rows
}

func instant(t metav1.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t.Time
}

// inShort is the tunnel's cell in the table of peerings.
func (r *tunnelRow) inShort() string {
	switch {
	case r == nil:
		return "-"
	case r.Mode != string(v1alpha1.TunnelModeTunnel):
		return r.Mode
	case r.Up == string(metav1.ConditionTrue):
		return "up"
	case r.Up == string(metav1.ConditionFalse):
		return "down"
	}
	return "starting"
}

// printTunnels writes a table of all paths and, below it, which addresses are seen as which.
func (o overview) printTunnels(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	rows := 0
	for _, r := range o.Peerings {
		if r.Tunnel == nil {
			continue
		}
		for _, path := range r.Tunnel.Paths {
			if rows++; rows == 1 {
				fmt.Fprintln(table, "\nTUNNEL\tSLOT\tNODE\tUP\tTRANSPORT\tENDPOINT\tRTT\tLOSS\tMTU\tRECEIVED\tSENT\tSINCE")
			}
			fmt.Fprintln(table, r.Name+"\t"+strings.Join(path.cells(), "\t"))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, r := range o.Peerings {
		for _, line := range r.Tunnel.aliasLines(r.Name) {
			fmt.Fprintln(w, line)
		}
	}
	return nil
}

func (p pathRow) cells() []string {
	up, rtt, since, mtu := "yes", "-", "-", "-"
	if !p.Up {
		up = "no"
		if p.Reason != "" {
			up += ", " + p.Reason
		}
	}
	if p.RTTMicros > 0 {
		rtt = milliseconds(time.Duration(p.RTTMicros) * time.Microsecond)
	}
	if p.MTU > 0 {
		mtu = fmt.Sprint(p.MTU)
	}
	if p.Since != nil {
		since = duration.HumanDuration(time.Since(*p.Since))
	}
	return []string{fmt.Sprint(p.Slot), p.Node, up, orDash(p.Transport), orDash(p.Endpoint), rtt, fmt.Sprintf("%d%%", p.LossPercent), mtu,
		byteCount(p.ReceivedBytes), byteCount(p.SentBytes), since}
}

// aliasLines tell which ranges are seen as which. r may be nil.
func (r *tunnelRow) aliasLines(name string) []string {
	if r == nil {
		return nil
	}
	var theirs, ours []string
	for _, a := range r.Aliases {
		text := a.Range + " → " + a.As
		if a.Of == "us" {
			ours = append(ours, text)
		} else {
			theirs = append(theirs, text)
		}
	}
	var lines []string
	if len(theirs) > 0 {
		lines = append(lines, fmt.Sprintf("%s: its addresses are seen here as: %s", name, strings.Join(theirs, ", ")))
	}
	if len(ours) > 0 {
		lines = append(lines, fmt.Sprintf("%s: our addresses are seen there as: %s", name, strings.Join(ours, ", ")))
	}
	return lines
}

// byteCount shows bytes: 512B, 3.4KiB, 1.2GiB.
func byteCount(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%dB", n)
	}
	size := float64(n)
	for _, unit := range []string{"KiB", "MiB", "GiB"} {
		if size /= 1 << 10; size < 1<<10 {
			return fmt.Sprintf("%.1f%s", size, unit)
		}
	}
	return fmt.Sprintf("%.1fTiB", size/(1<<10))
}
