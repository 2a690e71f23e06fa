package kubelet

import (
	"io"
	"net"
	"time"
)

// lingerTimeout is how long a caller whose stream has ended may take to read the last of it and to close.
const lingerTimeout = 10 * time.Second

// callerConn is the connection of a caller that has been taken over. It keeps what the peer says last from being lost: clients ping
// while they listen, and a connection that is closed with something unread in it is reset, with all that is still on its way. It
// relies on io.Copy, which leaves the copying to WriteTo and ReadFrom.
type callerConn struct {
	net.Conn
	said chan struct{} // closed when the peer has said everything
}

func newCallerConn(c net.Conn) *callerConn {
	return &callerConn{Conn: c, said: make(chan struct{})}
}

// WriteTo hands what the caller says to the peer, until the caller ends. A peer that no longer listens may still be heard.
func (c *callerConn) WriteTo(peer io.Writer) (int64, error) {
	to := &noting{to: peer}
	n, err := io.Copy(to, struct{ io.Reader }{c.Conn})
	if to.failed {
		<-c.said
	}
	return n, err
}

// noting tells errors of writing from those of reading.
type noting struct {
	to     io.Writer
	failed bool
}

func (w *noting) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	w.failed = err != nil
	return n, err
}

// ReadFrom hands what the peer says to the caller, until the peer ends.
func (c *callerConn) ReadFrom(peer io.Reader) (int64, error) {
	defer close(c.said)
	return io.Copy(struct{ io.Writer }{c.Conn}, peer)
}

// Close says that nothing more comes, and waits for the caller to have heard it.
func (c *callerConn) Close() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if ok && half.CloseWrite() == nil {
		_ = c.SetReadDeadline(time.Now().Add(lingerTimeout))
		_, _ = io.Copy(io.Discard, struct{ io.Reader }{c.Conn}) // what comes now is for nobody
	}
	return c.Conn.Close()
}
