package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	podresource "k8s.io/component-helpers/resource"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// overview is what status prints.
type overview struct {
	Context         string         `json:"context"`
	ControllerAlive bool           `json:"controllerAlive"`
	ControllerWhy   string         `json:"controllerWhy,omitempty"` // why one thinks that no controller works
	Peerings        []row          `json:"peerings"`
	Migrations      []migrationRow `json:"migrations,omitempty"` // that go on
	Bursts          []burstRow     `json:"bursts,omitempty"`
}

// row is one Peering.
type row struct {
	Name      string     `json:"name"`
	Role      string     `json:"role"` // borrow, share or both
	Ready     string     `json:"ready"`
	Removing  bool       `json:"removing,omitempty"`
	ClusterID string     `json:"clusterID"`
	Server    string     `json:"server,omitempty"`
	Nodes     []string   `json:"nodes,omitempty"`
	Borrowed  *use       `json:"borrowed,omitempty"`
	Shared    *use       `json:"shared,omitempty"`
	Tenant    string     `json:"tenantNamespace,omitempty"`
	Tunnel    *tunnelRow `json:"tunnel,omitempty"`
	Since     *time.Time `json:"since,omitempty"` // when ready became what it is
	Troubles  []trouble  `json:"troubles,omitempty"`
}

// use is how much of an offer is used. Pods that have ended do not count.
type use struct {
	Pods    int                 `json:"pods"`
	Running int                 `json:"running"`
	Offered corev1.ResourceList `json:"offered"`
	Used    corev1.ResourceList `json:"used"` // requests
}

// trouble is a condition that is not True.
type trouble struct {
	Condition string `json:"condition"`
	Status    string `json:"status"`
	Reason    string `json:"reason"`
	Message   string `json:"message"`
	Action    string `json:"action"`
}

// describe sums up p: nodes are its virtual nodes, pods those bound to them, twins the peer's pods that run here.
func describe(p *v1alpha1.Peering, nodes []corev1.Node, pods, twins []corev1.Pod) row {
	r := row{Name: p.Name, Role: roleOf(p), Ready: "Unknown", Removing: p.DeletionTimestamp != nil, ClusterID: p.Spec.ClusterID}
	if ready := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
		r.Ready = string(ready.Status)
		if !ready.LastTransitionTime.IsZero() {
			r.Since = &ready.LastTransitionTime.Time
		}
	}
	if p.Spec.Borrow != nil {
		offered := corev1.ResourceList{}
		for i := range nodes {
			r.Nodes = append(r.Nodes, nodes[i].Name)
			add(offered, nodes[i].Status.Allocatable)
		}
		if p.Spec.API != nil {
			r.Server = p.Spec.API.Server
		}
		r.Borrowed = useOf(pods, offered)
	}
	if p.Spec.Share != nil {
		r.Shared = useOf(twins, p.Status.Offer)
		if p.Status.Tenant != nil {
			r.Tenant = p.Status.Tenant.Namespace
		}
	}
	r.Tunnel = describeTunnel(p)
	r.Troubles = troublesOf(p)
	return r
}

// troublesOf lists the conditions of p that are not True. Ready only repeats one of them, so it counts only alone.
func troublesOf(p *v1alpha1.Peering) []trouble {
	var troubles []trouble
	var ready *metav1.Condition
	for i := range p.Status.Conditions {
		c := &p.Status.Conditions[i]
		switch {
		case c.Status == metav1.ConditionTrue:
		case c.Type == v1alpha1.ConditionReady:
			ready = c
		default:
			troubles = append(troubles, troubleOf(p, *c))
		}
	}
	if len(troubles) == 0 && ready != nil {
		troubles = append(troubles, troubleOf(p, *ready))
	}
	if len(p.Status.Conditions) == 0 {
		troubles = append(troubles, trouble{v1alpha1.ConditionReady, string(metav1.ConditionUnknown), "NotSeen", "spillwayd has not looked at this Peering yet",
			"Check that spillwayd works: kubectl -n " + v1alpha1.SystemNamespace + " logs deploy/spillway-controller"})
	}
	return troubles
}

func troubleOf(p *v1alpha1.Peering, c metav1.Condition) trouble {
	return trouble{c.Type, string(c.Status), c.Reason, c.Message, advise(p, c)}
}

func useOf(pods []corev1.Pod, offered corev1.ResourceList) *use {
	u := &use{Offered: offered, Used: corev1.ResourceList{}}
	for i := range pods {
		phase := pods[i].Status.Phase
		if phase == corev1.PodSucceeded || phase == corev1.PodFailed {
			continue
		}
		u.Pods++
		if phase == corev1.PodRunning {
			u.Running++
		}
		add(u.Used, podresource.PodRequests(&pods[i], podresource.PodResourcesOptions{}))
	}
	return u
}

// add adds more to sum.
func add(sum, more corev1.ResourceList) {
	for name, amount := range more {
		total := sum[name]
		total.Add(amount)
		sum[name] = total
	}
}

// print writes o as a table, with what is wrong below it.
func (o overview) print(w io.Writer, wide bool) error {
	if !o.ControllerAlive && o.ControllerWhy != "" {
		fmt.Fprintf(w, "No spillwayd controller is running in context %s (%s): what follows may be old.\n\n", o.Context, o.ControllerWhy)
	}
	if len(o.Peerings) == 0 {
		_, err := fmt.Fprintf(w, "The cluster of context %s is not peered with any other. %s\n", o.Context, howToPeer(o.Context))
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	header := "NAME\tROLE\tREADY\tNODES\tPODS\tCPU USED/OFFERED\tMEMORY USED/OFFERED\tSINCE"
	joined := slices.ContainsFunc(o.Peerings, func(r row) bool { return r.Tunnel != nil })
	if joined {
		header += "\tTUNNEL"
	}
	if wide {
		header += "\tCLUSTER\tSERVER\tTENANT"
	}
	fmt.Fprintln(table, header)
	for _, r := range o.Peerings {
		fmt.Fprintln(table, strings.Join(r.cells(joined, wide), "\t"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if err := o.printTunnels(w); err != nil {
		return err
	}
	o.printMoves(w)
	for _, r := range o.Peerings {
		for _, t := range r.Troubles {
			fmt.Fprintf(w, "\n%s: %s is %s (%s): %s\n  → %s\n", r.Name, t.Condition, t.Status, t.Reason, sentence(orDash(t.Message)), sentence(t.Action))
		}
	}
	return nil
}

// cells are r's columns. A Peering with both parts shows in them what is borrowed, and what is shared in brackets.
func (r row) cells(joined, wide bool) []string {
	ready := r.Ready
	if r.Removing {
		ready += ", removing"
	}
	since := "-"
	if r.Since != nil {
		since = duration.HumanDuration(time.Since(*r.Since))
	}
	cells := []string{r.Name, r.Role, ready, orDash(strings.Join(r.Nodes, ",")),
		r.each(func(u *use) string { return fmt.Sprintf("%d/%d running", u.Running, u.Pods) }),
		r.each(func(u *use) string { return cores(u.Used) + "/" + cores(u.Offered) }),
		r.each(func(u *use) string { return mebibytes(u.Used) + "/" + mebibytes(u.Offered) }),
		since}
	if joined {
		cells = append(cells, r.Tunnel.inShort())
	}
	if wide {
		cells = append(cells, r.ClusterID, orDash(r.Server), orDash(r.Tenant))
	}
	return cells
}

// each shows what is borrowed or, for a mere provider, what is shared; of both, the latter in brackets.
func (r row) each(show func(*use) string) string {
	switch {
	case r.Borrowed == nil && r.Shared == nil:
		return "-"
	case r.Borrowed == nil:
		return show(r.Shared)
	case r.Shared == nil:
		return show(r.Borrowed)
	}
	return show(r.Borrowed) + " (" + show(r.Shared) + ")"
}

// cores shows CPUs with at most one decimal.
func cores(list corev1.ResourceList) string {
	milli := list.Cpu().MilliValue()
	if milli%1000 == 0 {
		return fmt.Sprint(milli / 1000)
	}
	return fmt.Sprintf("%.1f", float64(milli)/1000)
}

// mebibytes shows memory in Mi below one Gi, else in Gi.
func mebibytes(list corev1.ResourceList) string {
	bytes := float64(list.Memory().Value())
	switch {
	case bytes == 0:
		return "0"
	case bytes < 1<<30:
		return fmt.Sprintf("%.0fMi", bytes/(1<<20))
	}
	return fmt.Sprintf("%.1fGi", bytes/(1<<30))
}
