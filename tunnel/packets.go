package tunnel

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
)

// packetState remembers what was written into nftables, and the counts of tables that were replaced.
type packetState struct {
	written     *Packets // nil: nothing yet
	fingerprint string   // of the table as written
	generation  uint32
	resume      time.Time // until when connections that were forgotten may go on

	mu     sync.Mutex
	before map[string]uint64 // guarded by mu; packets refused by tables of the past, by peer; "" for strangers
	peers  []string          // guarded by mu; by number of the chain
}

// resumeFor is for how long a forgotten connection may be silent on our side and still go on: longer than senders wait
// between two tries.
const resumeFor = 30 * time.Second

// ensure has our table as wanted; changed says that it was not. When nobody has changed anything in the
// kernel's nftables since, it costs one question.
func (s *packetState) ensure(want Packets) (changed bool, err error) {
	conn, err := openNftables()
	if err != nil {
		return false, err
	}
	want.Resume = time.Now().Before(s.resume)
	same := s.written != nil && reflect.DeepEqual(*s.written, want)
	if same {
		now, err := generation()
		if err == nil && now == s.generation {
			return false, nil
		}
		if seen, err := fingerprint(conn); err == nil && seen == s.fingerprint {
			s.generation = now
			return false, nil
		}
	}
	forget := retranslated(s.written, want)
	if !forget.empty() {
		s.resume, want.Resume = time.Now().Add(resumeFor), true
	}
	if !same && s.written != nil && onlyReachable(*s.written, want) {
		if err := s.replaceReachable(conn, want); err == nil {
			return true, s.remember(conn, want)
		}
	}
	if s.written == nil && len(want.Peers) == 0 {
		if t, err := conn.ListTableOfFamily(tableName, nftables.TableFamilyINet); err != nil || t == nil {
			return false, nil // nothing there, nothing wanted
		}
	}
	s.bank(conn, want)
	closing := s.written != nil && s.written.Resume && !want.Resume
	if err := replaceTable(conn, want); err != nil {
		return true, err
	}
	if err := conn.Flush(); err != nil {
		s.written = nil
		return true, fmt.Errorf("write nftables table %s: %w", tableName, err)
	}
	return !closing, errors.Join(s.remember(conn, want), forgetConnections(forget))
}

func (s *packetState) remember(conn *nftables.Conn, want Packets) error {
	seen, err := fingerprint(conn)
	if err != nil {
		return err
	}
	s.written, s.fingerprint = &want, seen
	s.generation, err = generation()
	return err
}

// fingerprint names every chain, rule and set of our table, and how many elements the sets have.
func fingerprint(conn *nftables.Conn) (string, error) {
	table, err := conn.ListTableOfFamily(tableName, nftables.TableFamilyINet)
	if err != nil || table == nil {
		return "", nil // no table
	}
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return "", fmt.Errorf("list nftables chains: %w", err)
	}
	rules, err := ruleHandles()
	if err != nil {
		return "", err
	}
	var parts []string
	for _, c := range chains {
		if c.Table.Name == tableName {
			parts = append(parts, fmt.Sprint("chain ", c.Name, rules[c.Name]))
		}
	}
	sets, err := conn.GetSets(ourTable())
	if err != nil {
		return "", fmt.Errorf("list nftables sets: %w", err)
	}
	for _, set := range sets {
		elements, err := conn.GetSetElements(set)
		if err != nil {
			return "", fmt.Errorf("list nftables set %s: %w", set.Name, err)
		}
		parts = append(parts, fmt.Sprintf("set %s %d", set.Name, len(elements)))
	}
	slices.Sort(parts)
	return fmt.Sprint(parts), nil
}

// onlyReachable says that nothing but the addresses that peers may reach differs: then only their sets are written.
func onlyReachable(a, b Packets) bool {
	bare := func(p Packets) Packets {
		p.Peers = slices.Clone(p.Peers)
		for i := range p.Peers {
			p.Peers[i].Reachable = nil
		}
		return p
	}
	return reflect.DeepEqual(bare(a), bare(b))
}

func (s *packetState) replaceReachable(conn *nftables.Conn, want Packets) error {
	for i, p := range want.Peers {
		if slices.Equal(p.Reachable, s.written.Peers[i].Reachable) {
			continue
		}
		for _, f := range families() {
			set := &nftables.Set{Table: ourTable(), Name: reachSet(i, f), KeyType: f.keyType()}
			conn.FlushSet(set)
			for part := range slices.Chunk(f.reach(p.Reachable), perMessage) {
				if err := conn.SetAddElements(set, part); err != nil {
					return err
				}
			}
		}
	}
	return conn.Flush()
}

// bank keeps the counts of the table that is about to be replaced.
func (s *packetState) bank(conn *nftables.Conn, want Packets) {
	now := s.refused(conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.peers = now, nil
	for _, p := range want.Peers {
		s.peers = append(s.peers, p.Name)
	}
}

// refused is how many packets were refused since the start, by peer; "" are those of no peer.
func (s *packetState) refused(conn *nftables.Conn) map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]uint64{}
	for peer, n := range s.before {
		out[peer] = n
	}
	objects, err := conn.GetObjects(ourTable())
	if err != nil {
		return out // no table
	}
	counts := map[string]uint64{}
	for _, o := range objects {
		if c, ok := o.(*nftables.CounterObj); ok {
			counts[c.Name] = c.Packets
		}
	}
	out[""] += counts[strangers()]
	for i, peer := range s.peers {
		out[peer] += counts[refusedCounter(i)]
	}
	return out
}
