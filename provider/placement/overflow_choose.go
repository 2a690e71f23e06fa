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
		message = "No peer takes it: " + several(refusals)
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

// options are the peers that take a pod now, in the order of the policy, and why the others do not.
func (p *pass) options(c *claim) (options []option, refusals []string) {
	r := c.rule
	if len(c.sent) > 0 {
		return p.filter(c, p.untried(c), c.goes())
	}
	open := r.open[c.shape]
	if open == nil {
		open = p.allowed(c)
		r.open[c.shape] = open
	}
	return p.filter(c, open, nil)
}

// prospects are the peers of a policy as pods of one shape see them. Who is refused once stays refused: room and limits only shrink
// while pods are placed.
type prospects struct {
	access   []access
	refusals []string // by peer; empty: not refused yet
}

// allowed are the peers that a pod may run in, room apart.
func (p *pass) allowed(c *claim) *prospects {
	out := &prospects{}
	for _, peer := range c.rule.Peers {
		a := p.board.access(c.shape.class, peer.Name)
		out.access = append(out.access, a)
		out.refusals = append(out.refusals, a.why)
	}
	return out
}

// untried leaves out the peers where it was tried more often than in others, and the last one: the pod tolerates it already.
func (p *pass) untried(c *claim) *prospects {
	out, times, fewest := p.allowed(c), c.goes(), math.MaxInt
	for i, peer := range c.rule.Peers {
		if out.refusals[i] == "" {
			fewest = min(fewest, times[peer.Name])
		}
	}
	for i, peer := range c.rule.Peers {
		if out.refusals[i] == "" && (times[peer.Name] > fewest || c.spot == toPeer && peer.Name == c.peer) {
			out.refusals[i] = "was tried"
		}
	}
	return out
}

// filter keeps the peers that have room, by limits and nodes. A pod counts already in those that it was sent to.
func (p *pass) filter(c *claim, open *prospects, counted map[string]int) (options []option, refusals []string) {
	r, needs := c.rule, c.shape.needs
	for i, peer := range r.Peers {
		if open.refusals[i] != "" {
			continue
		}
		node := p.room.among(open.access[i].nodes, needs)
		unit := over(r.away[peer.Name], needs, r.limits[i])
		switch {
		case unit >= 0 && counted[peer.Name] == 0:
			open.refusals[i] = "is at the policy's limit of " + p.board.units.say(unit, r.limits[i][unit])
		case node < 0:
			open.refusals[i] = p.tight(open.access[i].nodes, needs)
		default:
			options = append(options, option{i, node})
		}
	}
	if len(options) > 0 {
		return options, nil
	}
	for i, why := range open.refusals {
		refusals = append(refusals, r.Peers[i].Name+" "+why)
	}
	return nil, refusals
}

// tight says which room is missing on nodes, by the first of them.
func (p *pass) tight(nodes []int, needs vector) string {
	free := p.room.free[nodes[0]]
	unit := free.short(needs)
	return fmt.Sprintf("has no room for %s (%s free)", p.board.units.say(unit, needs[unit]), p.board.units.say(unit, max(0, free[unit])))
}

func several(what []string) string {
	if len(what) > maxNamed {
		return strings.Join(what[:maxNamed], "; ") + fmt.Sprintf("; and %d others", len(what)-maxNamed)
	}
	return strings.Join(what, "; ")
}
