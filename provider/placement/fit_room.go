package placement

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// vector is amounts of resources, by their places in units. The first is the number of pods.
type vector []int64

// unlimited is the amount of a resource, in a vector of limits, that has none.
const unlimited = -1

func (v vector) add(o vector, times int64) {
	for i := range v {
		v[i] += o[i] * times
	}
}

// short is the first resource of which v has less than needs; -1: none.
func (v vector) short(needs vector) int {
	for i, n := range needs {
		if n > v[i] && n > 0 {
			return i
		}
	}
	return -1
}

// units are the names of the resources that pods request and of singles, in the order that vectors have them.
type units []corev1.ResourceName

func newUnits(pods []Pod, singles []single) units {
	seen := map[corev1.ResourceName]bool{}
	for i := range pods {
		for name := range pods[i].Requests {
			seen[name] = true
		}
	}
	delete(seen, corev1.ResourcePods)
	out := append(units{corev1.ResourcePods}, slices.Sorted(maps.Keys(seen))...)
	for _, s := range singles {
		out = append(out, s.name)
	}
	return out
}

func amount(name corev1.ResourceName, q resource.Quantity) int64 {
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// have is what a list says; what it does not name is zero.
func (u units) have(list corev1.ResourceList) vector {
	v := make(vector, len(u))
	for i, name := range u {
		if q, ok := list[name]; ok {
			v[i] = amount(name, q)
		}
	}
	return v
}

// limits is the most that a list and a number of pods allow.
func (u units) limits(pods *int32, list corev1.ResourceList) vector {
	v := make(vector, len(u))
	for i, name := range u {
		v[i] = unlimited
		if q, ok := list[name]; ok {
			v[i] = amount(name, q)
		}
	}
	if pods != nil && (v[0] == unlimited || int64(*pods) < v[0]) {
		v[0] = int64(*pods)
	}
	return v
}

// over is the first resource of which used and needs together are more than limit; -1: none. counted: used has the needs already.
func over(used, needs, limit vector, counted bool) int {
	for i, l := range limit {
		sum := used[i]
		if !counted {
			sum += needs[i]
		}
		if l != unlimited && needs[i] > 0 && sum > l {
			return i
		}
	}
	return -1
}

// say writes an amount for people: "5 pods", "cpu 500m".
func (u units) say(i int, n int64) string {
	switch name := u[i]; {
	case i == 0 && n == 1:
		return "1 pod"
	case i == 0:
		return resource.NewQuantity(n, resource.DecimalSI).String() + " pods"
	case strings.Contains(string(name), " "):
		return string(name)
	case name == corev1.ResourceCPU:
		return "cpu " + resource.NewMilliQuantity(n, resource.DecimalSI).String()
	case name == corev1.ResourceMemory || name == corev1.ResourceEphemeralStorage || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix):
		return string(name) + " " + resource.NewQuantity(n, resource.BinarySI).String()
	default:
		return string(name) + " " + resource.NewQuantity(n, resource.DecimalSI).String()
	}
}

// all writes what one pod needs.
func (u units) all(needs vector) string {
	var out []string
	for i, n := range needs {
		if i > 0 && n > 0 {
			out = append(out, u.say(i, n))
		}
	}
	if len(out) == 0 {
		return u.say(0, needs[0])
	}
	return strings.Join(out, " and ")
}

// name is the name of a resource for people.
func (u units) name(i int) string { return string(u[i]) }

// room is what the nodes have free while pods are put there one by one. Pods only take: a shape that once found no place finds none
// later, and the nodes that were too small for it stay so.
type room struct {
	*board
	free  []vector // by node
	first map[*shape]int
	sums  map[*class]vector // free on all own nodes that a class may run on, of those that were asked for
}

func newRoom(b *board) *room {
	r := &room{board: b, free: make([]vector, len(b.nodes)), first: map[*shape]int{}, sums: map[*class]vector{}}
	for i := range b.nodes {
		r.free[i] = slices.Clone(b.nodes[i].alloc)
	}
	return r
}

// clone returns a room of its own that is as free as this one.
func (r *room) clone() *room {
	c := &room{board: r.board, free: make([]vector, len(r.free)), first: maps.Clone(r.first), sums: map[*class]vector{}}
	for i := range r.free {
		c.free[i] = slices.Clone(r.free[i])
	}
	return c
}

func (r *room) take(i int, needs vector) {
	for kind, sum := range r.sums {
		if _, found := slices.BinarySearch(kind.home, i); found {
			for k, before := range r.free[i] {
				sum[k] += max(0, before-needs[k]) - max(0, before)
			}
		}
	}
	r.free[i].add(needs, -1)
}

// among is a node of the list that has room for needs; -1: none.
func (r *room) among(nodes []int, needs vector) int {
	for _, i := range nodes {
		if r.free[i].short(needs) < 0 {
			return i
		}
	}
	return -1
}

// home is an own node with room for a shape; -1: none.
func (r *room) home(s *shape) int {
	k := r.first[s]
	for k < len(s.class.home) && r.free[s.class.home[k]].short(s.needs) >= 0 {
		k++
	}
	r.first[s] = k
	if k == len(s.class.home) {
		return -1
	}
	return s.class.home[k]
}

// slack is the first resource of which less than percent of what a class may use at home would stay free if needs were taken; -1: none.
func (r *room) slack(s *shape, percent int64) int {
	free, all := r.sums[s.class], s.class.total
	if free == nil {
		free = make(vector, len(r.units))
		for _, i := range s.class.home {
			for k, n := range r.free[i] {
				free[k] += max(0, n)
			}
		}
		r.sums[s.class] = free
	}
	for i, n := range s.needs[:r.common()] {
		if n > 0 && free[i]-n < all[i]/100*percent+all[i]%100*percent/100 {
			return i
		}
	}
	return -1
}
