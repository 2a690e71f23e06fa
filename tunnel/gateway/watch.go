package gateway

import "time"

const (
	pingEvery = 120 * time.Millisecond // more than the timeout of a ping
	askAfter  = 2                      // misses, before others are asked
	lostAfter = 4                      // misses
	sparedFor = 500 * time.Millisecond
	latePing  = 2 * probeTimeout // the ping did not wait for an answer but for this process to run
	asked     = 3                // members
)

// watched returns the members whose absence this node must notice faster than the pool does: the holders of slots,
// when it could take them.
func (t *table) watched() []string {
	if !t.isGateway(t.self) {
		return nil
	}
	var names []string
	for name, m := range t.members {
		if len(m.said.claims) > 0 {
			names = append(names, name)
		}
	}
	return names
}

// pinged notes whether a member has answered a ping, and reports whether others are to be asked about it.
func (t *table) pinged(name string, answered bool, now time.Time) (ask bool) {
	m, ok := t.members[name]
	if !ok {
		return false
	}
	if answered {
		m.misses, m.lost = 0, false
		return false
	}
	m.misses++
	m.lost = m.misses >= lostAfter && now.Sub(m.spared) >= sparedFor
	return m.misses >= askAfter
}

// vouched notes that somebody else reaches a member.
func (t *table) vouched(name string, now time.Time) {
	if m, ok := t.members[name]; ok {
		m.spared, m.lost = now, false
	}
}

// neighbours returns up to n members that may be asked about another, gateways last: they ask themselves.
func (t *table) neighbours(about string, n int) []string {
	var names, gateways []string
	for name, m := range t.members {
		switch {
		case name == about || m.lost || m.misses > 0:
		case t.isGateway(name):
			gateways = append(gateways, name)
		default:
			names = append(names, name)
		}
	}
	names = append(names, gateways...)
	return names[:min(n, len(names))]
}
