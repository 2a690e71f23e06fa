// Package netbench measures the network between two processes: how much TCP carries each way, and how long round trips of
// TCP and UDP take. It knows nothing of clusters or tunnels.
//
//	server, err := netbench.Listen(ctx, ":5201")       // one end
//	go server.Serve(ctx)
//	result, err := netbench.Run(ctx, netbench.Options{  // the other end
//		Target: server.Addr(), Duration: 5 * time.Second, Count: 1000,
//	})
//
// Both ends speak a protocol of their own on one TCP and one UDP port of the same number. A TCP connection begins with a
// header: eight bytes magic, one byte what is measured, four bytes duration in milliseconds. Datagrams begin with the
// magic too and come back as they are, so that nothing is gained by a forged source.
package netbench

import (
	"encoding/binary"
	"errors"
	"io"
	"time"
)

// DefaultPort is where a server listens when nothing else is said.
const DefaultPort = 5201

const (
	magic       = "swbench1"
	headerSize  = len(magic) + 1 + 4
	messageSize = 64 // of a round trip; small packets, as those of requests

	longest = 5 * time.Minute // that a server sends for
)

// What a connection measures, from the client's point of view.
const (
	modeUp   byte = 'u' // the client sends; at its end the server says how many bytes came
	modeDown byte = 'd' // the server sends for the duration
	modeEcho byte = 'e' // the server returns messages of messageSize
)

// errForeign: somebody who does not speak the protocol.
var errForeign = errors.New("not a netbench client")

func writeHeader(w io.Writer, mode byte, d time.Duration) error {
	header := append([]byte(magic), mode)
	header = binary.BigEndian.AppendUint32(header, uint32(d.Milliseconds()))
	_, err := w.Write(header)
	return err
}

func readHeader(r io.Reader) (mode byte, d time.Duration, err error) {
	header := make([]byte, headerSize)
	if _, err := io.ReadFull(r, header); err != nil {
		return 0, 0, err
	}
	if string(header[:len(magic)]) != magic {
		return 0, 0, errForeign
	}
	d = time.Duration(binary.BigEndian.Uint32(header[len(magic)+1:])) * time.Millisecond
	return header[len(magic)], min(d, longest), nil
}
