package placement

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelpers "k8s.io/component-helpers/resource"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// room refuses a peer that cannot take all pods that would move. At home it only warns, since a cluster autoscaler may add nodes.
func (c *migrationCheck) room() {
	free := c.free()
	if len(free) == 0 {
		return // said already
	}
	total, need, missing := migrationSum(free), corev1.ResourceList{}, []string(nil)
	for i := range c.subjects {
		s := &c.subjects[i]
		if s.Kind == v1alpha1.WorkloadCronJob {
			continue
		}
		requests := migrationRequests(&corev1.Pod{Spec: s.template.Spec})
		pods := s.replicas - c.there(s)
		for n := range pods {
			migrationAdd(need, requests)
			if !migrationTake(free, requests) && !slices.ContainsFunc(missing, func(m string) bool { return strings.HasSuffix(m, " of "+s.String()) }) {
				missing = append(missing, fmt.Sprintf("%d of %d pods of %s", pods-n, pods, s))
			}
		}
	}
	if len(missing) == 0 {
		return
	}
	say := c.refuse
	place := "peer " + c.to
	if c.to == Home {
		say, place = c.warn, "home"
	}
	say("%s has no room for %s: %s; make room, offer more, or move less", place, strings.Join(missing, ", "), migrationShort(need, total))
}

// free is what the open nodes of the destination have left.
func (c *migrationCheck) free() []corev1.ResourceList {
	nodes := c.open()
	free, index := make([]corev1.ResourceList, len(nodes)), map[string]int{}
	for i, n := range nodes {
		free[i], index[n.Name] = n.Status.Allocatable.DeepCopy(), i
	}
	for _, pod := range c.in.Pods {
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		i, bound := index[pod.Spec.NodeName]
		if !bound && pod.Spec.NodeName == "" && c.to != Home && len(free) > 0 && PlaceOf(pod, c.peerOf) == c.to {
			i, bound = 0, true // on its way
		}
		if bound {
			migrationSubtract(free[i], migrationRequests(pod))
		}
	}
	return free
}

// migrationRequests are what the scheduler counts for a pod, and the pod itself.
func migrationRequests(pod *corev1.Pod) corev1.ResourceList {
	requests := resourcehelpers.PodRequests(pod, resourcehelpers.PodResourcesOptions{}).DeepCopy()
	if requests == nil {
		requests = corev1.ResourceList{}
	}
	requests[corev1.ResourcePods] = *resource.NewQuantity(1, resource.DecimalSI)
	return requests
}

// migrationTake takes requests from the first node that has them.
func migrationTake(free []corev1.ResourceList, requests corev1.ResourceList) bool {
	for _, node := range free {
		fits := true
		for name, q := range requests {
			have := node[name]
			fits = fits && (q.IsZero() || have.Cmp(q) >= 0)
		}
		if fits {
			migrationSubtract(node, requests)
			return true
		}
	}
	return false
}

func migrationAdd(to, list corev1.ResourceList) {
	for name, q := range list {
		sum := to[name]
		sum.Add(q)
		to[name] = sum
	}
}

func migrationSubtract(from, list corev1.ResourceList) {
	for name, q := range list {
		rest := from[name]
		rest.Sub(q)
		from[name] = rest
	}
}

func migrationSum(lists []corev1.ResourceList) corev1.ResourceList {
	sum := corev1.ResourceList{}
	for _, l := range lists {
		migrationAdd(sum, l)
	}
	return sum
}

// migrationShort says of which resources there is too little.
func migrationShort(need, free corev1.ResourceList) string {
	var short []string
	for name, q := range need {
		have := free[name]
		if have.Sign() < 0 {
			have = resource.Quantity{}
		}
		if !q.IsZero() && have.Cmp(q) < 0 {
			short = append(short, fmt.Sprintf("they need %s %s and %s is free", name, q.String(), have.String()))
		}
	}
	if len(short) == 0 {
		return "no single node of it has enough left"
	}
	slices.Sort(short)
	return strings.Join(short, ", ")
}
