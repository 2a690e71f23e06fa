package gateway

import (
	"encoding/binary"
	"errors"
)

// MaxSlots is how many slots there may be.
const MaxSlots = 8

// announcement is what a member says of itself. It fits into memberlist's 512 bytes of metadata.
type announcement struct {
	session uint32 // of the process; random
	version uint32 // grows with each change within the session
	gateway bool
	leaving bool           // give my slots to others
	claims  map[int]uint64 // slot → epoch
}

const (
	announcementVersion = 1
	announcementHead    = 11
	claimSize           = 9
)

var errAnnouncement = errors.New("announcement that cannot be read")

// encode writes: version (1) flags (1) session (4) version (4) number of claims (1), then slot (1) epoch (8) each.
func (a announcement) encode() []byte {
	b := make([]byte, announcementHead, announcementHead+claimSize*len(a.claims))
	b[0] = announcementVersion
	if a.gateway {
		b[1] |= 1
	}
	if a.leaving {
		b[1] |= 2
	}
	binary.BigEndian.PutUint32(b[2:], a.session)
	binary.BigEndian.PutUint32(b[6:], a.version)
	for slot := range MaxSlots {
		if epoch, ok := a.claims[slot]; ok {
			b[10]++
			b = append(b, byte(slot))
			b = binary.BigEndian.AppendUint64(b, epoch)
		}
	}
	return b
}

func decodeAnnouncement(b []byte) (announcement, error) {
	if len(b) < announcementHead || b[0] != announcementVersion || len(b) != announcementHead+claimSize*int(b[10]) {
		return announcement{}, errAnnouncement
	}
	a := announcement{
		session: binary.BigEndian.Uint32(b[2:]), version: binary.BigEndian.Uint32(b[6:]),
		gateway: b[1]&1 != 0, leaving: b[1]&2 != 0, claims: map[int]uint64{},
	}
	for b = b[announcementHead:]; len(b) > 0; b = b[claimSize:] {
		if b[0] >= MaxSlots {
			return announcement{}, errAnnouncement
		}
		a.claims[int(b[0])] = binary.BigEndian.Uint64(b[1:])
	}
	return a, nil
}

// encodeHolders writes: number (1), then epoch (8), length of the name (1), name each.
func encodeHolders(holders []Holder) []byte {
	b := []byte{byte(len(holders))}
	for _, h := range holders {
		name := h.Node[:min(len(h.Node), 255)]
		b = binary.BigEndian.AppendUint64(b, h.Epoch)
		b = append(b, byte(len(name)))
		b = append(b, name...)
	}
	return b
}

func decodeHolders(b []byte) ([]Holder, error) {
	if len(b) == 0 || b[0] > MaxSlots {
		return nil, errAnnouncement
	}
	holders := make([]Holder, b[0])
	b = b[1:]
	for n := range holders {
		if len(b) < 9 || len(b) < 9+int(b[8]) {
			return nil, errAnnouncement
		}
		end := 9 + int(b[8])
		holders[n] = Holder{Epoch: binary.BigEndian.Uint64(b), Node: string(b[9:end])}
		b = b[end:]
	}
	return holders, nil
}

// note is a message between members outside of memberlist's own.
type note struct {
	kind         byte
	from         string // who sends it
	about        string // noteAsk, noteAlive: the member in question
	announcement []byte // noteClaims
}

const (
	noteClaims byte = 1 // the announcement of from, sent to everybody so that nobody waits for gossip
	noteAsk    byte = 2 // do you reach about?
	noteAlive  byte = 3 // from reaches about
)

func (n note) encode() []byte {
	b := []byte{n.kind, byte(len(n.from)), byte(len(n.about))}
	b = append(b, n.from...)
	b = append(b, n.about...)
	return append(b, n.announcement...)
}

func decodeNote(b []byte) (note, error) {
	if len(b) < 3 || len(b) < 3+int(b[1])+int(b[2]) || b[0] < noteClaims || b[0] > noteAlive {
		return note{}, errAnnouncement
	}
	from, about := 3+int(b[1]), 3+int(b[1])+int(b[2])
	return note{kind: b[0], from: string(b[3:from]), about: string(b[from:about]), announcement: append([]byte(nil), b[about:]...)}, nil
}
