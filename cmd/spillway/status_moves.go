package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// burstRow is an OffloadPolicy that bursts.
type burstRow struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Remote    int32  `json:"remotePods"`
	Bursting  string `json:"bursting,omitempty"`   // what its condition says
	Returning string `json:"comingHome,omitempty"` // what its condition says
}

// lookAtMoves reads the Migrations that go on and the policies that burst. What the user may not read is left out, and so is what
// an older Spillway does not know.
func (o *overview) lookAtMoves(ctx context.Context, c *cluster, peer string) error {
	migrations, err := mayRead(c.migrations(metav1.NamespaceAll).List(ctx, metav1.ListOptions{}))
	if err != nil && !apierrors.IsNotFound(err) {
		return explain(c, "list Migrations", err)
	}
	for i := 0; migrations != nil && i < len(migrations.Items); i++ {
		if m := &migrations.Items[i]; !isOver(m) && (peer == "" || concerns(m, peer)) {
			o.Migrations = append(o.Migrations, rowOf(m))
		}
	}
	policies, err := mayRead(c.policies(metav1.NamespaceAll).List(ctx, metav1.ListOptions{}))
	if err != nil && !apierrors.IsNotFound(err) {
		return explain(c, "list OffloadPolicies", err)
	}
	for i := 0; policies != nil && i < len(policies.Items); i++ {
		if p := &policies.Items[i]; p.Spec.When == v1alpha1.OffloadBurst && (peer == "" || mayGo(p, peer)) {
			o.Bursts = append(o.Bursts, burstOf(p))
		}
	}
	slices.SortFunc(o.Migrations, func(a, b migrationRow) int { return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name) })
	slices.SortFunc(o.Bursts, func(a, b burstRow) int { return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name) })
	return nil
}

// concerns says whether m moves something to or from a peer.
func concerns(m *v1alpha1.Migration, peer string) bool {
	return m.Spec.To.Peer == peer || slices.ContainsFunc(m.Status.Workloads, func(w v1alpha1.MigratedWorkload) bool { return w.From == peer })
}

// mayGo says whether pods of p may go to a peer, as far as names tell.
func mayGo(p *v1alpha1.OffloadPolicy, peer string) bool {
	return len(p.Spec.Peers) == 0 || slices.ContainsFunc(p.Spec.Peers, func(c v1alpha1.PeerChoice) bool { return c.Name == peer || c.Name == "" })
}

func burstOf(p *v1alpha1.OffloadPolicy) burstRow {
	r := burstRow{Namespace: p.Namespace, Name: p.Name, Remote: p.Status.RemotePods}
	if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionBursting); c != nil {
		r.Bursting = c.Message
	}
	if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionComingHome); c != nil {
		r.Returning = c.Message
	}
	return r
}

// printMoves writes what moves, below the Peerings.
func (o overview) printMoves(w io.Writer) {
	for _, m := range o.Migrations {
		fmt.Fprintf(w, "\nMigration %s/%s to %s: %s\n", m.Namespace, m.Name, m.To, m.progress)
	}
	for _, b := range o.Bursts {
		text := plural(int(b.Remote), "pod") + " in peers"
		for _, more := range []string{b.Bursting, b.Returning} {
			if more != "" {
				text += "; " + more
			}
		}
		fmt.Fprintf(w, "\nOffloadPolicy %s/%s bursts: %s\n", b.Namespace, b.Name, sentence(text))
	}
}
