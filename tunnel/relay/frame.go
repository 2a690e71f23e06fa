package relay

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// maxDatagram is the largest datagram of WireGuard on an ordinary link, jumbo frames included, with room to spare.
	maxDatagram = 16 << 10
	headerSize  = 2
	// streamBuffer takes about four TLS records: what is queued goes out in as few system calls as possible.
	streamBuffer = 64 << 10
)

// errFrame says that the other side does not speak the protocol.
var errFrame = errors.New("frame of impossible length")

// appendFrame puts a datagram into a stream.
func appendFrame(w *bufio.Writer, datagram []byte) error {
	var header [headerSize]byte
	binary.BigEndian.PutUint16(header[:], uint16(len(datagram)))
	if _, err := w.Write(header[:]); err != nil {
		return err
	}
	_, err := w.Write(datagram)
	return err
}

// readFrame reads the next datagram into buf, which has room for maxDatagram bytes.
func readFrame(r *bufio.Reader, buf []byte) (int, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, err
	}
	n := int(binary.BigEndian.Uint16(header[:]))
	if n == 0 || n > maxDatagram {
		return 0, fmt.Errorf("%w: %d", errFrame, n)
	}
	_, err := io.ReadFull(r, buf[:n])
	return n, err
}

// frameWaiting says that the whole next frame is in the buffer of r: reading it does not block.
func frameWaiting(r *bufio.Reader) bool {
	if r.Buffered() < headerSize {
		return false
	}
	header, err := r.Peek(headerSize)
	return err == nil && r.Buffered() >= headerSize+int(binary.BigEndian.Uint16(header))
}
