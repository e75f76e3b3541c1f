// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/dovetail-dev/dovetail/pkg/sandbox"
	simulator "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// secretForms are those of all credentials that there are in a sandbox.
var secretForms = sync.OnceValue(func() map[string]*regexp.Regexp {
	forms := map[string]*regexp.Regexp{
		"access key id of the user":     regexp.MustCompile(regexp.QuoteMeta(sandbox.UserAccessKeyID)),
		"secret access key of the user": regexp.MustCompile(regexp.QuoteMeta(sandbox.UserSecretAccessKey)),
		// Service account tokens, in kubeconfigs and in requests.
		"bearer token": regexp.MustCompile(`\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}`),
		"private key":  regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----`),
		// As kubeconfigs have it: in base64, by what stands between "-----BEGIN " and "PRIVATE KEY".
		"private key in base64":           regexp.MustCompile(`LS0tLS1CRUdJTi(BQUklWQVRF|BSU0EgUFJJVkFURS|BFQyBQUklWQVRF)`),
		"signature of a request to AWS":   regexp.MustCompile(`AWS4-HMAC-SHA256 Credential=|X-Amz-Signature=[0-9a-f]{16}`),
		"password in a URL":               regexp.MustCompile(`\b[a-z]+://[^/\s:@]+:[^/\s:@]+@`),
		"header that carries credentials": regexp.MustCompile(`(?i)\b(authorization|x-amz-security-token|x-aws-ec2-metadata-token)"?: *\[?"?[\w-]{4,}`),
	}
	maps.Copy(forms, simulator.Secrets)
	return forms
})

// secretsIn a text, each as its kind and the line's number.
func secretsIn(text io.Reader) (found []string, err error) {
	forms := secretForms()
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, 16<<20)
	for n := 1; lines.Scan(); n++ {
		for kind, form := range forms {
			if form.Match(lines.Bytes()) {
				found = append(found, fmt.Sprintf("line %d: %s", n, kind))
			}
		}
	}
	slices.Sort(found)
	return found, lines.Err()
}

// CheckSecrets fails where a credential stands in a log of any program, or in an object of the cluster that people read: events, conditions,
// annotations. The controller must have logged all it can.
func (s *Sandbox) CheckSecrets(ctx context.Context) error {
	var problems []error
	debug, agents := false, 0
	err := filepath.WalkDir(filepath.Join(s.opts.Dir, "logs"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		debug = debug || strings.HasSuffix(path, ".controller.log") && strings.Contains(string(content), `"level":"DEBUG"`)
		if strings.HasSuffix(path, ".agent.log") {
			agents++
		}
		found, err := secretsIn(strings.NewReader(string(content)))
		for _, secret := range found {
			problems = append(problems, fmt.Errorf("%s, %s", path, secret))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("looking for credentials in logs: %w", err)
	}
	if !debug || agents == 0 {
		problems = append(problems, fmt.Errorf("there is not all to look through for credentials: %d logs of agents, and the controller logs its debug lines: %t", agents, debug))
	}
	objects, err := s.secretsInObjects(ctx)
	return errors.Join(append(problems, objects, err)...)
}

func (s *Sandbox) secretsInObjects(ctx context.Context) (problems, err error) {
	for _, kind := range []schema.GroupVersionKind{
		{Version: "v1", Kind: "Event"}, {Group: "events.k8s.io", Version: "v1", Kind: "Event"}, {Version: "v1", Kind: "Node"}, {Version: "v1", Kind: "Pod"}, {Version: "v1", Kind: "ConfigMap"},
		{Group: "karpenter.sh", Version: "v1", Kind: "NodeClaim"}, {Group: "karpenter.sh", Version: "v1", Kind: "NodePool"}, {Group: "karpenter.k8s.aws", Version: "v1", Kind: "EC2NodeClass"},
		{Group: "dovetail.dev", Version: "v1alpha1", Kind: "PodNetwork"}, {Group: "dovetail.dev", Version: "v1alpha1", Kind: "NodeMigration"}, {Group: "crd.k8s.amazonaws.com", Version: "v1alpha1", Kind: "ENIConfig"},
	} {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		if err := s.Kube.List(ctx, list); err != nil {
			return problems, fmt.Errorf("looking for credentials in objects of kind %s: %w", kind.Kind, err)
		}
		for _, object := range list.Items {
			content, err := object.MarshalJSON()
			if err != nil {
				return problems, err
			}
			found, err := secretsIn(strings.NewReader(string(content)))
			for _, secret := range found {
				problems = errors.Join(problems, fmt.Errorf("%s %s/%s has a credential: %s", kind.Kind, object.GetNamespace(), object.GetName(), secret))
			}
			if err != nil {
				return problems, err
			}
		}
	}
	return problems, nil
}
