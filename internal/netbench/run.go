package netbench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Options say what Run measures.
type Options struct {
	// Target is where a Server listens.
	Target netip.AddrPort
	// Duration of each of the two throughput runs, up and down. 0: no throughput.
	Duration time.Duration
	// Count of round trips, of TCP and of UDP each. 0: none.
	Count int
	// Wait is how long to try until the server answers at first. 0: once.
	Wait time.Duration
}

// Result is what Run measured. What was not asked for is zero.
type Result struct {
	Target            string  `json:"target"`
	UpBitsPerSecond   float64 `json:"upBitsPerSecond"`   // from the client to the server, TCP payload
	DownBitsPerSecond float64 `json:"downBitsPerSecond"` // from the server to the client
	TCP               Latency `json:"tcp"`
	UDP               Latency `json:"udp"`
}

// Latency sums up round trips of 64 bytes.
type Latency struct {
	Count        int     `json:"count"` // that were tried
	Lost         int     `json:"lost"`
	MedianMicros float64 `json:"medianMicros"`
	P99Micros    float64 `json:"p99Micros"`
}

const (
	dialTimeout = 3 * time.Second
	retryAfter  = 200 * time.Millisecond
	// lostAfter is when a datagram counts as lost: far above any round trip that still is of use.
	lostAfter = time.Second
	// mostLost in a row end a run of datagrams: nothing passes.
	mostLost = 5
	// slack is how much longer than asked a throughput run may take: what was buffered has to arrive.
	slack = 30 * time.Second
)

// Run measures the way to o.Target: round trips first, on an idle path, then throughput. It returns an error when the
// server does not answer or a connection breaks; datagrams that do not come back are counted instead.
func Run(ctx context.Context, o Options) (Result, error) {
	result := Result{Target: o.Target.String()}
	if err := await(ctx, o); err != nil {
		return result, err
	}
	var err error
	if o.Count > 0 {
		if result.TCP, err = tcpTrips(ctx, o); err != nil {
			return result, fmt.Errorf("measure TCP round trips to %s: %w", o.Target, err)
		}
		if result.UDP, err = udpTrips(ctx, o); err != nil {
			return result, fmt.Errorf("measure UDP round trips to %s: %w", o.Target, err)
		}
	}
	if o.Duration > 0 {
		if result.UpBitsPerSecond, err = up(ctx, o); err != nil {
			return result, fmt.Errorf("measure throughput to %s: %w", o.Target, err)
		}
		if result.DownBitsPerSecond, err = down(ctx, o); err != nil {
			return result, fmt.Errorf("measure throughput from %s: %w", o.Target, err)
		}
	}
	return result, nil
}

// await tries until the server takes a connection.
func await(ctx context.Context, o Options) error {
	end := time.Now().Add(o.Wait)
	for {
		conn, err := dial(ctx, o, modeEcho, 0)
		if err == nil {
			return conn.Close()
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return fmt.Errorf("connect to %s: %w", o.Target, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryAfter):
		}
	}
}

// dial opens a connection that is closed when ctx ends, and says what it is for.
func dial(ctx context.Context, o Options, mode byte, d time.Duration) (*net.TCPConn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", o.Target.String())
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	if err := writeHeader(conn, mode, d); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn.(*net.TCPConn), nil
}

func tcpTrips(ctx context.Context, o Options) (Latency, error) {
	ctx, cancel := context.WithCancel(ctx) // gives the connection back
	defer cancel()
	conn, err := dial(ctx, o, modeEcho, 0)
	if err != nil {
		return Latency{}, err
	}
	message, took := make([]byte, messageSize), make([]time.Duration, 0, o.Count)
	for range o.Count {
		begun := time.Now()
		_ = conn.SetDeadline(begun.Add(slack))
		if _, err := conn.Write(message); err != nil {
			return Latency{}, err
		}
		if _, err := io.ReadFull(conn, message); err != nil {
			return Latency{}, err
		}
		took = append(took, time.Since(begun))
	}
	return summary(took, 0), nil
}

func udpTrips(ctx context.Context, o Options) (Latency, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "udp", o.Target.String())
	if err != nil {
		return Latency{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	message := make([]byte, messageSize)
	copy(message, magic)
	took, lost, row := make([]time.Duration, 0, o.Count), 0, 0
	for i := 0; i < o.Count && row < mostLost; i++ {
		binary.BigEndian.PutUint64(message[len(magic):], uint64(i))
		begun := time.Now()
		if _, err := conn.Write(message); err == nil {
			err = readBack(conn, uint64(i), begun.Add(lostAfter))
			if err == nil {
				took, row = append(took, time.Since(begun)), 0
				continue
			}
		}
		if ctx.Err() != nil {
			return Latency{}, ctx.Err()
		}
		lost, row = lost+1, row+1
	}
	return summary(took, lost), nil
}

// readBack waits for the datagram with this number; those that come too late are passed over.
func readBack(conn net.Conn, number uint64, deadline time.Time) error {
	if err := conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	answer := make([]byte, messageSize)
	for {
		n, err := conn.Read(answer)
		if err != nil {
			return err
		}
		if n == messageSize && binary.BigEndian.Uint64(answer[len(magic):]) == number {
			return nil
		}
	}
}

// up sends for the duration and counts what the server says it has received, until that word has come: nothing that
// still lies in a buffer counts.
func up(ctx context.Context, o Options) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := dial(ctx, o, modeUp, o.Duration)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	_ = conn.SetDeadline(begun.Add(o.Duration + slack))
	if _, err := blast(conn, o.Duration); err != nil {
		return 0, err
	}
	if err := conn.CloseWrite(); err != nil {
		return 0, err
	}
	count := make([]byte, 8)
	if _, err := io.ReadFull(conn, count); err != nil {
		return 0, err
	}
	return float64(binary.BigEndian.Uint64(count)) * 8 / time.Since(begun).Seconds(), nil
}

func down(ctx context.Context, o Options) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := dial(ctx, o, modeDown, o.Duration)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	_ = conn.SetDeadline(begun.Add(o.Duration + slack))
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, make([]byte, 256<<10))
	if err != nil {
		return 0, err
	}
	return float64(n) * 8 / time.Since(begun).Seconds(), nil
}

// summary sorts took.
func summary(took []time.Duration, lost int) Latency {
	l := Latency{Count: len(took) + lost, Lost: lost}
	if len(took) == 0 {
		return l
	}
	slices.Sort(took)
	micros := func(percent int) float64 {
		return float64(took[min(len(took)*percent/100, len(took)-1)].Nanoseconds()) / 1000
	}
	l.MedianMicros, l.P99Micros = micros(50), micros(99)
	return l
}
