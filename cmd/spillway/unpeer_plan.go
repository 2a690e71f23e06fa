package main

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// Finalizers of the controllers, one per role.
const (
	finalizerPrefix   = v1alpha1.GroupName + "/"
	finalizerConsumer = finalizerPrefix + "consumer"
	finalizerProvider = finalizerPrefix + "provider"
)

// Roles of a cluster in a Peering, as shown.
const (
	roleBorrow = "borrow"
	roleShare  = "share"
	roleBoth   = "both"
)

func roleOf(p *v1alpha1.Peering) string {
	switch {
	case p.Spec.Borrow != nil && p.Spec.Share != nil:
		return roleBoth
	case p.Spec.Borrow != nil:
		return roleBorrow
	}
	return roleShare
}

// pick finds the Peering that a user means among those of home: the one of this name, or the one with remote, or the
// only one. name may be empty and remote nil; a remote that did not answer has no id and is known by its address.
func pick(home *cluster, existing []v1alpha1.Peering, name string, remote *cluster) (*v1alpha1.Peering, error) {
	if len(existing) == 0 {
		return nil, problemf("There is nothing to un-peer.", "%s is not peered with any cluster", home.title())
	}
	if name != "" {
		found := find(existing, name)
		if found == nil {
			return nil, problemf("There are: "+peeringNames(existing)+".", "%s has no Peering %q", home.title(), name)
		}
		if remote != nil && remote.id != "" && remote.id != found.Spec.ClusterID {
			return nil, problemf("Leave one of the two out.", "the Peering %q of %s is not with the cluster of context %q", name, home.title(), remote.context)
		}
		return found, nil
	}
	if remote != nil {
		for i := range existing {
			if isWith(&existing[i], remote) {
				return &existing[i], nil
			}
		}
		if remote.id != "" || len(existing) > 1 {
			return nil, problemf("There are: "+peeringNames(existing)+".", "%s is not peered with the cluster of context %q", home.title(), remote.context)
		}
	}
	if len(existing) > 1 {
		return nil, problemf("Name one of: "+peeringNames(existing)+".", "%s is peered with %d clusters", home.title(), len(existing))
	}
	return &existing[0], nil
}

// isWith says whether p is the Peering with remote, by its id or, when that could not be read, by its address.
func isWith(p *v1alpha1.Peering, remote *cluster) bool {
	if remote.id != "" {
		return p.Spec.ClusterID == remote.id
	}
	if p.Spec.API == nil {
		return false
	}
	sameCA := len(remote.caBundle) > 0 && bytes.Equal(bytes.TrimSpace(remote.caBundle), bytes.TrimSpace(p.Spec.API.CABundle))
	return sameCA || sameServer(p.Spec.API.Server, remote.server)
}

func peeringNames(existing []v1alpha1.Peering) string {
	names := make([]string, len(existing))
	for i := range existing {
		names[i] = existing[i].Name
	}
	sort.Strings(names)
	return strings.Join(names, ", ")
}

// fates says what un-peering means for the pods on the virtual nodes.
type fates struct {
	Total     int          `json:"total"`
	Elsewhere []controlled `json:"elsewhere"` // come back on other nodes
	Lost      []string     `json:"lost"`      // namespace/name of pods that nothing makes again
	Finished  int          `json:"finished"`  // ended already; only their records go
}

// controlled counts the pods of one controller.
type controlled struct {
	Controller string `json:"controller"` // kind namespace/name
	Pods       int    `json:"pods"`
}

// judgePods says what un-peering means for pods. Sorted by name.
func judgePods(pods []corev1.Pod) fates {
	f := fates{Total: len(pods), Elsewhere: []controlled{}, Lost: []string{}}
	counts := map[string]int{}
	for i := range pods {
		pod := &pods[i]
		owner := metav1.GetControllerOf(pod)
		switch {
		case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
			f.Finished++
		case owner != nil:
			counts[fmt.Sprintf("%s %s/%s", owner.Kind, pod.Namespace, owner.Name)]++
		default:
			f.Lost = append(f.Lost, pod.Namespace+"/"+pod.Name)
		}
	}
	for controller, n := range counts {
		f.Elsewhere = append(f.Elsewhere, controlled{controller, n})
	}
	slices.SortFunc(f.Elsewhere, func(a, b controlled) int { return strings.Compare(a.Controller, b.Controller) })
	sort.Strings(f.Lost)
	return f
}

// lines tell f to people.
func (f fates) lines() []string {
	if f.Total == 0 {
		return []string{"No pods are on the virtual node."}
	}
	var lines []string
	if len(f.Elsewhere) > 0 {
		total := 0
		parts := make([]string, len(f.Elsewhere))
		for i, c := range f.Elsewhere {
			total += c.Pods
			parts[i] = fmt.Sprintf("%s (%d)", c.Controller, c.Pods)
		}
		lines = append(lines, fmt.Sprintf("%s will be deleted and made again elsewhere by their controllers: %s", plural(total, "pod"), strings.Join(parts, ", ")))
	}
	if len(f.Lost) > 0 {
		lines = append(lines, fmt.Sprintf("%s without a controller will be lost: %s", plural(len(f.Lost), "pod"), strings.Join(f.Lost, ", ")))
	}
	if f.Finished > 0 {
		lines = append(lines, fmt.Sprintf("%s already ended; their records and logs will go", plural(f.Finished, "pod")))
	}
	return lines
}

// tunnelFate says what un-peering means for the tunnel of p; empty: there is none.
func tunnelFate(p *v1alpha1.Peering, borrowOnly bool) string {
	switch {
	case modeOf(p) != v1alpha1.TunnelModeTunnel:
		return ""
	case borrowOnly && p.Spec.Share != nil:
		return "The tunnel stays, as this cluster keeps sharing."
	}
	return "The tunnel goes too: pods of the two clusters will no longer reach each other."
}

// removal is what is to be taken away in one cluster.
type removal struct {
	cluster *cluster
	peering *v1alpha1.Peering
	borrow  bool // remove the borrow part
	share   bool // remove the share part
}

// whole says whether nothing of the Peering would be left, so that the object itself is to be deleted.
func (r removal) whole() bool {
	return (r.borrow || r.peering.Spec.Borrow == nil) && (r.share || r.peering.Spec.Share == nil)
}

// patch is the merge patch that takes away the parts, for a Peering of which something stays.
func (r removal) patch() string {
	if r.borrow {
		return `{"spec":{"borrow":null,"api":null}}`
	}
	return `{"spec":{"share":null}}`
}

// end is what is true of the Peering when r is done.
func (r removal) end() string {
	switch {
	case r.whole():
		return "is gone"
	case r.borrow:
		return "no longer borrows"
	}
	return "no longer shares"
}

// finished says whether the controllers are done with r. now is the Peering as it is; nil: it is gone.
func (r removal) finished(now *v1alpha1.Peering) bool {
	if now == nil || now.UID != r.peering.UID {
		return true
	}
	if r.whole() {
		return false
	}
	return !(r.borrow && slices.Contains(now.Finalizers, finalizerConsumer)) && !(r.share && slices.Contains(now.Finalizers, finalizerProvider))
}

// removalAtHome is what un-peering takes away at home.
func removalAtHome(home *cluster, p *v1alpha1.Peering, borrowOnly bool) removal {
	return removal{cluster: home, peering: p, borrow: p.Spec.Borrow != nil, share: p.Spec.Share != nil && !borrowOnly}
}

// removalAtPeer is what un-peering takes away at the peer, whose Peering for home is p.
func removalAtPeer(peer *cluster, p *v1alpha1.Peering, borrowOnly bool) removal {
	return removal{cluster: peer, peering: p, borrow: p.Spec.Borrow != nil && !borrowOnly, share: p.Spec.Share != nil}
}
