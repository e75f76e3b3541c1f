// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// port on which kubelets serve.
const port = 10250

// certificateLife is longer than any sandbox lives.
const certificateLife = 365 * 24 * time.Hour

// serve what the API server asks kubelets for, until the context ends. Of all that, only exec is here.
func (k *Kubelet) serve(ctx context.Context, listener net.Listener) error {
	certificate, err := selfSigned(k.machine.Hostname, k.machine.IP.AsSlice())
	if err != nil {
		return fmt.Errorf("kubelet's certificate: %w", err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(k.machine.CA) {
		return errors.New("the cluster's authority in the user data is no certificate")
	}
	routes := http.NewServeMux()
	routes.HandleFunc("/exec/{namespace}/{pod}/{container}", k.handleExec)
	server := &http.Server{
		Handler: k.authorize(routes), ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, MinVersion: tls.VersionTLS12,
		},
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/2 cannot be upgraded to SPDY
		BaseContext:  func(net.Listener) context.Context { return ctx },
	}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("kubelet's server: %w", err)
	}
	return nil
}

func (k *Kubelet) listen() (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort(k.machine.IP.String(), strconv.Itoa(port)))
}

// authorize asks the cluster, as a kubelet of EKS does (authorization mode Webhook), whether the user of the client certificate may use
// this node's kubelet.
func (k *Kubelet) authorize(next http.Handler) http.Handler {
	verbs := map[string]string{http.MethodGet: "get", http.MethodPost: "create"}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user := r.TLS.PeerCertificates[0].Subject
		review, err := k.client.AuthorizationV1().SubjectAccessReviews().Create(r.Context(), &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{
				User: user.CommonName, Groups: user.Organization,
				ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verbs[r.Method], Resource: "nodes", Subresource: "proxy", Name: k.machine.Hostname},
			},
		}, metav1.CreateOptions{})
		switch {
		case err != nil:
			http.Error(w, "asking whether you may: "+err.Error(), http.StatusInternalServerError)
		case !review.Status.Allowed:
			http.Error(w, fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource=proxy)", user.CommonName, verbs[r.Method]), http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// selfSigned is the certificate of a kubelet that has none of the cluster's authority: the API server does not look at it.
func selfSigned(name string, ip net.IP) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	start := time.Now().Add(-time.Hour) // clocks jump
	template := &x509.Certificate{
		SerialNumber: big.NewInt(start.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: start, NotAfter: start.Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: []string{name}, IPAddresses: []net.IP{ip},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
