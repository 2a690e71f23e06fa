package fuzz

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// dice decides what one pod looks like.
type dice struct {
	*rand.Rand
	names int
}

// newDice returns the dice of pod number i of a seed.
func newDice(seed, i uint64) *dice { return &dice{Rand: rand.New(rand.NewPCG(seed, i))} }

// chance is true in percent of a hundred cases.
func (d *dice) chance(percent int) bool { return d.IntN(100) < percent }

// between returns a number of [low, high].
func (d *dice) between(low, high int) int { return low + d.IntN(high-low+1) }

// name returns a label of RFC 1123 that no other call for this pod returns.
func (d *dice) name(prefix string) string {
	d.names++
	return fmt.Sprint(prefix, "-", d.names)
}

// known returns one of few names, so that they meet again.
func (d *dice) known(prefix string) string { return fmt.Sprint(prefix, "-", d.IntN(5)) }

// text returns what no API server looks into, with what JSON and YAML trip over.
func (d *dice) text() string {
	words := []string{"plain", "", "$(HOME)", "null", "0x1F", "ü–日本", "a\nb\tc", `"quoted" \ {}`, "yes", "<html>&amp;", strings.Repeat("long ", 60)}
	return words[d.IntN(len(words))]
}

// path returns a relative path that no other call for this pod returns.
func (d *dice) path() string { return d.name("dir") + "/" + d.known("file") }

// mode returns the bits of a file's permission.
func (d *dice) mode() int32 { return d.Int32N(0o1000) }

func (d *dice) bool() bool { return d.IntN(2) == 0 }

// labels returns some labels, at least one.
func (d *dice) labels() map[string]string {
	labels := map[string]string{}
	for range d.between(1, 4) {
		labels[pick(d, "app", "example.com/tier", "pod-template-hash", "version", "a.b-c_d")] = pick(d, "web", "", "v1.2", "A_b-9")
	}
	return labels
}

// selector returns a selector of labels that is valid.
func (d *dice) selector() *metav1.LabelSelector {
	s := &metav1.LabelSelector{}
	if d.chance(70) {
		s.MatchLabels = d.labels()
	}
	if d.chance(50) {
		s.MatchExpressions = []metav1.LabelSelectorRequirement{
			{Key: "expr-1", Operator: pick(d, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn), Values: []string{"x", "y"}},
			{Key: "expr-2", Operator: pick(d, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist)},
		}
	}
	return s
}

// quantity returns a number of units, from low to high.
func (d *dice) quantity(low, high int, unit string) resource.Quantity {
	return resource.MustParse(fmt.Sprint(d.between(low, high), unit))
}

// pick returns one of the values.
func pick[T any](d *dice, values ...T) T { return values[d.IntN(len(values))] }

// maybe returns a pointer to what is made in percent of a hundred cases, nil otherwise.
func maybe[T any](d *dice, percent int, value func() T) *T {
	if !d.chance(percent) {
		return nil
	}
	v := value()
	return &v
}

// some returns at most most of what is made, often none.
func some[T any](d *dice, most int, value func() T) []T {
	if d.chance(60) {
		return nil
	}
	var list []T
	for range d.between(1, most) {
		list = append(list, value())
	}
	return list
}

// oneOf returns a union of which one of the members is set.
func oneOf[T any](d *dice, members ...func(*T)) T {
	var union T
	members[d.IntN(len(members))](&union)
	return union
}
