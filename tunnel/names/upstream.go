package names

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// errNoUpstream: the cluster's DNS is not known yet.
var errNoUpstream = errors.New("the cluster's DNS is not known")

// answerSize is the largest answer over UDP that is taken from upstream where the asker named no size, bytes.
const answerSize = 4096

// udpTries is how often a question over UDP is put.
const udpTries = 3

// ask puts a question to upstream until it is answered or ctx ends, over UDP again and again, to one after the other. The answer
// belongs to the caller.
func ask(ctx context.Context, upstream []netip.AddrPort, question *dns.Msg, tcp bool) (*dns.Msg, error) {
	if len(upstream) == 0 {
		return nil, errNoUpstream
	}
	client, tries, within := dns.Client{Net: "udp", UDPSize: answerSize, Timeout: giveUp}, max(udpTries, len(upstream)), attempt
	if tcp {
		client.Net, tries, within = "tcp", len(upstream), giveUp/2
	}
	var failed error
	for i := range tries {
		answer, err := askOne(ctx, &client, upstream[i%len(upstream)], question, within)
		if err == nil {
			return answer, nil
		}
		failed = err
		if ctx.Err() != nil {
			break
		}
		within += within / 2
	}
	return nil, failed
}

func askOne(ctx context.Context, client *dns.Client, at netip.AddrPort, question *dns.Msg, within time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	conn, err := client.DialContext(ctx, at.String())
	if err != nil {
		return nil, fmt.Errorf("reach DNS %s: %w", at, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // ends what waits
	defer stop()
	answer, _, err := client.ExchangeWithConnContext(ctx, question, conn)
	if err != nil {
		return nil, fmt.Errorf("ask DNS %s: %w", at, err)
	}
	if !answers(answer, question) {
		return nil, fmt.Errorf("ask DNS %s: it answered another question", at)
	}
	return answer, nil
}

func answers(answer, question *dns.Msg) bool {
	if !answer.Response || len(answer.Question) != 1 {
		return answer.Response && len(answer.Question) == 0 && answer.Rcode != dns.RcodeSuccess
	}
	a, q := answer.Question[0], question.Question[0]
	return a.Qtype == q.Qtype && a.Qclass == q.Qclass && strings.EqualFold(a.Name, q.Name)
}
