// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"fmt"
	"net"
	"net/url"
	"path"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// environment of a container: where the API server is, as the kubelet tells every pod, then what the pod asks for.
//
// The address is the cluster's endpoint and not that of the kubernetes Service: no kube-proxy serves Services here.
func (c *container) environment() ([]string, error) {
	endpoint, err := url.Parse(c.w.k.machine.Endpoint)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(endpoint.Host)
	if err != nil {
		host, port = endpoint.Host, "443"
	}
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/",
		"KUBERNETES_SERVICE_HOST=" + host, "KUBERNETES_SERVICE_PORT=" + port,
		"HOSTNAME=" + c.w.hostname(),
	}
	for _, e := range c.spec.Env {
		value, err := c.value(e)
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", e.Name, err)
		}
		env = append(env, e.Name+"="+value)
	}
	return env, nil
}

func (w *podWorker) hostname() string {
	if w.pod.Spec.HostNetwork {
		return w.k.machine.Hostname
	}
	return w.pod.Name
}

func (c *container) value(e corev1.EnvVar) (string, error) {
	switch {
	case e.ValueFrom == nil:
		return e.Value, nil
	case e.ValueFrom.FieldRef != nil:
		return c.w.field(e.ValueFrom.FieldRef.FieldPath)
	case e.ValueFrom.ResourceFieldRef != nil:
		return c.resourceField(e.ValueFrom.ResourceFieldRef)
	default:
		return "", fmt.Errorf("this source is not simulated")
	}
}

func (w *podWorker) field(fieldPath string) (string, error) {
	switch fieldPath {
	case "metadata.name":
		return w.pod.Name, nil
	case "metadata.namespace":
		return w.pod.Namespace, nil
	case "metadata.uid":
		return string(w.uid), nil
	case "spec.nodeName":
		return w.pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return w.pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return w.k.machine.IP.String(), nil
	case "status.podIP":
		return w.ip.String(), nil
	default:
		return "", fmt.Errorf("field %s is not simulated", fieldPath)
	}
}

// resourceField answers in units of the divisor, rounded up. A limit that is not set is the node's.
func (c *container) resourceField(ref *corev1.ResourceFieldSelector) (string, error) {
	kind, name := path.Split(dotToSlash(ref.Resource))
	var list corev1.ResourceList
	switch kind {
	case "requests/":
		list = c.spec.Resources.Requests
	case "limits/":
		list = c.spec.Resources.Limits
	default:
		return "", fmt.Errorf("resource field %s is not known", ref.Resource)
	}
	quantity, ok := list[corev1.ResourceName(name)]
	if !ok && kind == "limits/" {
		quantity = c.w.k.node.Status.Allocatable[corev1.ResourceName(name)]
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if name == string(corev1.ResourceCPU) {
		return fmt.Sprint((quantity.MilliValue() + divisor.MilliValue() - 1) / divisor.MilliValue()), nil
	}
	return fmt.Sprint((quantity.Value() + divisor.Value() - 1) / divisor.Value()), nil
}

func dotToSlash(s string) string {
	for i := range s {
		if s[i] == '.' {
			return s[:i] + "/" + s[i+1:]
		}
	}
	return s
}
