package placement

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// maxNamed is how many peers a sentence names.
const maxNamed = 3

// price of an hour at a peer. said is the label's value; empty: none that can be read, which is dearer than any.
type price struct {
	value float64
	said  string
}

// price is the lowest of a peer's virtual nodes.
func (b *board) price(peer string) price {
	lowest := price{value: math.Inf(1)}
	for _, i := range b.peers[peer] {
		said := b.nodes[i].Labels[v1alpha1.LabelPrice]
		value, err := strconv.ParseFloat(said, 64)
		if err == nil && !math.IsNaN(value) && value < lowest.value {
			lowest = price{value, said}
		}
	}
	return lowest
}

// option is a peer that has room for a pod.
type option struct {
	index int // in Policy.Peers
	node  int
}

// choose says which peer a pod goes to, on which node it has room there, and why that one. No node (-1): none takes it, and message
// says why.
func (p *pass) choose(c *claim) (node int, peer, message string) {
	r := c.rule
	if why, refused := r.refused[c.shape]; refused && len(c.sent) == 0 {
		return -1, "", why
	}
	options, refusals := p.options(c)
	if len(options) == 0 {
		message = "No peer takes it: " + several(refusals, len(r.Peers))
		if len(refusals) == 0 {
			message = "The policy names no peer"
		}
		if n := len(c.sent); n > 0 && c.spot == toPeer {
			message = fmt.Sprintf("It was sent to %s, which has not taken it yet. ", c.sent[n-1].Peer) + message
		} else {
			r.refused[c.shape] = message // the same for all that are alike
		}
		return -1, "", message
	}
	of := fmt.Sprintf("of %d peers with room", len(options))
	if len(options) == 1 {
		of = "the only peer with room"
	}
	best, how := r.best(options)
	name := r.Peers[best.index].Name
	if len(options) == 1 {
		return best.node, name, fmt.Sprintf("Sent to %s, %s", name, of)
	}
	return best.node, name, fmt.Sprintf("Sent to %s, the %s %s", name, how, of)
}

// best is the option that the policy prefers, and what it is among them.
func (r *rule) best(options []option) (option, string) {
	switch r.Burst.Choose {
	case v1alpha1.BurstCheapest:
		best := slices.MinFunc(options, func(a, b option) int { return cmp.Compare(r.prices[a.index].value, r.prices[b.index].value) })
		if said := r.prices[best.index].said; said != "" {
			return best, fmt.Sprintf("cheapest (%s)", said)
		}
		return best, "first, since none has a price,"
	case v1alpha1.BurstWeighted:
		best := slices.MinFunc(options, func(a, b option) int {
			return cmp.Compare(r.load(a)*r.weight(b), r.load(b)*r.weight(a))
		})
		return best, fmt.Sprintf("one with the fewest pods for its weight (%d pods, weight %d)", r.load(best)-1, r.weight(best))
	}
	return options[0], "first"
}

// load is how many pods a peer would have with one more.
func (r *rule) load(o option) int64   { return int64(r.state.Peers[r.Peers[o.index].Name]) + 1 }
func (r *rule) weight(o option) int64 { return int64(max(1, r.Peers[o.index].Weight)) }

// prospects are the peers of a policy as pods of one shape see them.
type prospects struct {
	access []access
	full   []bool // stays so: room only shrinks while pods are placed
}

func (p *pass) prospects(c *claim) *prospects {
	open := c.rule.open[c.shape]
	if open == nil {
		open = &prospects{full: make([]bool, len(c.rule.Peers))}
		for _, peer := range c.rule.Peers {
			open.access = append(open.access, p.board.access(c.shape.class, peer.Name))
		}
		c.rule.open[c.shape] = open
	}
	return open
}

// options are the peers that take a pod now, in the order of the policy; when there is none, refusals say why, of the first ones. A peer
// is not tried again before all others were, and not twice in a row: the pod tolerates it already.
func (p *pass) options(c *claim) (options []option, refusals []string) {
	r, open, times, fewest := c.rule, p.prospects(c), c.goes(), math.MaxInt
	for i, peer := range r.Peers {
		if open.access[i].why == "" {
			fewest = min(fewest, times[peer.Name])
		}
	}
	tried := func(peer string) bool { return times[peer] > fewest || c.spot == toPeer && peer == c.peer }
	limited := func(i int) int { // a pod counts already in peers that it was sent to
		return over(r.away[r.Peers[i].Name], c.shape.needs, r.limits[i], times[r.Peers[i].Name] > 0)
	}
	for i, peer := range r.Peers {
		if open.full[i] || open.access[i].why != "" || tried(peer.Name) || limited(i) >= 0 {
			continue
		}
		if node := p.room.among(open.access[i].nodes, c.shape.needs); node >= 0 {
			options = append(options, option{i, node})
		} else {
			open.full[i] = true
		}
	}
	for i := 0; i < min(len(r.Peers), maxNamed) && len(options) == 0; i++ {
		why, unit := open.access[i].why, limited(i)
		switch {
		case why != "":
		case tried(r.Peers[i].Name):
			why = "was tried"
		case unit >= 0:
			why = "is at the policy's limit of " + p.board.units.say(unit, r.limits[i][unit])
		default:
			why = p.tight(open.access[i].nodes, c.shape.needs)
		}
		refusals = append(refusals, r.Peers[i].Name+" "+why)
	}
	return options, refusals
}

// tight says which room is missing on nodes, by the first of them.
func (p *pass) tight(nodes []int, needs vector) string {
	free := p.room.free[nodes[0]]
	unit := free.short(needs)
	if unit >= p.board.common() {
		return "has no room for " + p.board.units.say(unit, 1)
	}
	return fmt.Sprintf("has no room for %s (%s free)", p.board.units.say(unit, needs[unit]), p.board.units.say(unit, max(0, free[unit])))
}

// several writes refusals, the first ones of as many as there are peers.
func several(refusals []string, peers int) string {
	out := strings.Join(refusals, "; ")
	if others := peers - len(refusals); others > 0 {
		out += fmt.Sprintf("; and %d others", others)
	}
	return out
}
