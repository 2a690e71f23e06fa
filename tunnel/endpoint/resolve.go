package endpoint

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"
)

const (
	// resolveEvery is how often names are looked up while a path is down, resolveAgain after an error, and when a path
	// goes down whose name was not looked up since.
	resolveEvery  = 30 * time.Second
	resolveAgain  = 3 * time.Second
	lookupTimeout = 5 * time.Second
)

// lookup is what is known of a name.
type lookup struct {
	addrs   []netip.Addr // of the last answer
	next    time.Time    // when to ask again, if a path is down
	running bool
	failing bool // already said
}

// split parses HOST:PORT.
func split(name string) (host string, port uint16, ok bool) {
	host, text, err := net.SplitHostPort(name)
	if err != nil || host == "" {
		return "", 0, false
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return host, uint16(n), err == nil && n != 0
}

// targetsLocked lists the addresses of UDP candidates as far as they are known. waiting: there are candidates.
func (c *Chooser) targetsLocked(names []string) (targets []target, waiting bool) {
	for _, name := range names {
		host, port, ok := split(name)
		if !ok {
			continue
		}
		waiting = true
		var addrs []netip.Addr
		if a, err := netip.ParseAddr(host); err == nil {
			addrs = []netip.Addr{a}
		} else if l := c.hosts[host]; l != nil {
			addrs = l.addrs
		}
		for _, a := range addrs {
			t := target{name, netip.AddrPortFrom(a.Unmap(), port)}
			if !slices.ContainsFunc(targets, func(o target) bool { return o.addr == t.addr }) {
				targets = append(targets, t)
			}
		}
	}
	return targets, waiting
}

// resolveLocked starts the lookups that are due for paths that are down, and returns when the next one is; zero: none.
// A name that no path has any more is forgotten.
func (c *Chooser) resolveLocked(ctx context.Context, r *runner, now time.Time) time.Time {
	var next time.Time
	used := map[string]bool{}
	for _, e := range c.entries {
		for _, name := range e.wanted.UDP {
			host, _, ok := split(name)
			if _, err := netip.ParseAddr(host); !ok || err == nil {
				continue
			}
			used[host] = true
			l := c.hosts[host]
			if l == nil {
				l = &lookup{}
				c.hosts[host] = l
			}
			if l.running || e.choice.up && len(l.addrs) > 0 {
				continue
			}
			if !now.Before(l.next) {
				l.running = true
				r.wg.Go(func() { c.lookUp(ctx, host) })
			} else if next.IsZero() || l.next.Before(next) {
				next = l.next
			}
		}
	}
	for host, l := range c.hosts {
		if !used[host] && !l.running {
			delete(c.hosts, host)
		}
	}
	return next
}

// lookUp asks for the addresses of a name once.
func (c *Chooser) lookUp(ctx context.Context, host string) {
	asking, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(asking, "ip", host)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	l := c.hosts[host]
	if l == nil || ctx.Err() != nil {
		return
	}
	l.running, l.next = false, now.Add(resolveEvery)
	if err != nil {
		l.next = now.Add(resolveAgain)
		if !l.failing {
			c.o.Log.Warn("endpoint of a peer does not resolve", zap.String("host", host), zap.Error(err))
		}
	} else {
		l.addrs = addrs
	}
	l.failing = err != nil
	for _, e := range c.entries {
		if slices.ContainsFunc(e.wanted.UDP, func(name string) bool { h, _, _ := split(name); return h == host }) {
			c.feedLocked(now, e)
		}
	}
	c.poke()
}
