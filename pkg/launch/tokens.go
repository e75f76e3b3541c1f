// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
	"github.com/patrickmn/go-cache"
	"k8s.io/utils/clock"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

const (
	// tokensTTL outlasts a NodeClaim that is not launched: Karpenter gives it up after five minutes.
	tokensTTL = 10 * time.Minute
	// adoptable is how old an instance may be that a repeated launch still takes for its own. Karpenter ends an instance that no
	// NodeClaim names when it is 30 s old, and the NodeClaim that names it must be written before.
	adoptable = 20 * time.Second
	// tokensPerFleet bounds the tokens that one launch tries: one that was used before, and one that was not.
	tokensPerFleet = 2
)

// Tokens are the client tokens of fleet requests, derived from the NodeClaim: a launch that is repeated because its answer was
// lost, or because the controller ended before it wrote the answer down, gets the instance that it has made already.
//
// Only a request for one instance has such a token. Upstream asks for the nodes of several NodeClaims in one request where it can, and
// nobody could tell whether a later request is for the same ones; see designs/tokens.md.
type Tokens struct {
	// LeadsSince is when this controller began to launch: another may have launched for older NodeClaims.
	LeadsSince func() time.Time
	Clock      clock.PassiveClock

	mu sync.Mutex
	// launches by NodeClaim: launchToken.
	launches *cache.Cache
}

// NewTokens of a controller.
func NewTokens(leadsSince func() time.Time, c clock.PassiveClock) *Tokens {
	return &Tokens{LeadsSince: leadsSince, Clock: c, launches: cache.New(tokensTTL, tokensTTL)}
}

// launchToken is where a NodeClaim's launches stand.
type launchToken struct {
	// number of tokens that are used up: what they have brought is no good.
	number int
	// asked tells that EC2 may know the present token already.
	asked bool
}

type claimKey struct{}

// launchedFor names the NodeClaim that a fleet request is for.
func launchedFor(ctx context.Context, claim *karpv1.NodeClaim) context.Context {
	return context.WithValue(ctx, claimKey{}, claim)
}

// createFleet asks EC2 with the NodeClaim's token. What a former request with it has brought is taken where it is of use: an instance
// that runs, and is not so old that Karpenter may be about to end it. Otherwise the next token asks anew.
func (t *Tokens) createFleet(ctx context.Context, api fleetAPI, in *ec2.CreateFleetInput, optFns ...func(*ec2.Options)) (*ec2.CreateFleetOutput, error) {
	claim, _ := ctx.Value(claimKey{}).(*karpv1.NodeClaim)
	if t == nil || claim == nil || claim.UID == "" || in.ClientToken != nil || in.TargetCapacitySpecification == nil || aws.ToInt32(in.TargetCapacitySpecification.TotalTargetCapacity) != 1 {
		return api.CreateFleet(ctx, in, optFns...)
	}
	request := inOrder(in)
	for range tokensPerFleet {
		state := t.take(claim)
		token, err := state.token(claim, request)
		if err != nil {
			return nil, err
		}
		request.ClientToken = &token
		out, err := api.CreateFleet(ctx, request, optFns...)
		switch {
		case usedUp(err):
		case err != nil: // none was made, or the answer was lost: the same token will tell
			return out, err
		case !state.asked && len(out.Instances) > 0:
			return out, nil
		case !state.asked:
			t.next(claim, state) // there was no capacity, which a repetition of the token would repeat
			return out, nil
		case t.ours(ctx, api, out):
			return out, nil
		}
		t.next(claim, state)
		request.ClientToken = nil
	}
	return api.CreateFleet(ctx, request, optFns...) // with a token of the SDK's
}

// fleetAPI is what createFleet calls.
type fleetAPI interface {
	CreateFleet(context.Context, *ec2.CreateFleetInput, ...func(*ec2.Options)) (*ec2.CreateFleetOutput, error)
	DescribeInstances(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)
}

// take the NodeClaim's present token to EC2.
func (t *Tokens) take(claim *karpv1.NodeClaim) launchToken {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := launchToken{asked: claim.CreationTimestamp.Time.Before(t.LeadsSince())}
	if known, ok := t.launches.Get(string(claim.UID)); ok {
		state = known.(launchToken)
	}
	t.launches.SetDefault(string(claim.UID), launchToken{number: state.number, asked: true})
	return state
}

func (t *Tokens) next(claim *karpv1.NodeClaim, used launchToken) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.launches.SetDefault(string(claim.UID), launchToken{number: used.number + 1})
}

// token is different for different requests: EC2 refuses one that comes with other parameters. It takes up to 64 characters.
func (s launchToken) token(claim *karpv1.NodeClaim, request *ec2.CreateFleetInput) (string, error) {
	request.ClientToken = nil
	parameters, err := json.Marshal(request)
	if err != nil {
		return "", fmt.Errorf("deriving the client token of a fleet request, %w", err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %s", claim.UID, s.number, parameters))
	return fmt.Sprintf("dovetail-%x", sum[:16]), nil
}

// usedUp tells that EC2 knows the token of another request, or of an instance that is gone.
func usedUp(err error) bool {
	var refused smithy.APIError
	return errors.As(err, &refused) && (refused.ErrorCode() == "IdempotentParameterMismatch" || refused.ErrorCode() == "IdempotentInstanceTerminated")
}

// ours tells whether the answer to a token that may be a former request's has an instance that will live. One that EC2 does not show
// was made just now.
func (t *Tokens) ours(ctx context.Context, api fleetAPI, out *ec2.CreateFleetOutput) bool {
	if len(out.Instances) == 0 {
		return false
	}
	described, err := api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: out.Instances[0].InstanceIds})
	var refused smithy.APIError
	if errors.As(err, &refused) && refused.ErrorCode() == "InvalidInstanceID.NotFound" {
		return true
	}
	if err != nil || len(described.Reservations) == 0 {
		return false
	}
	for _, i := range described.Reservations[0].Instances {
		alive := i.State != nil && (i.State.Name == ec2types.InstanceStateNamePending || i.State.Name == ec2types.InstanceStateNameRunning)
		if !alive || t.Clock.Since(aws.ToTime(i.LaunchTime)) > adoptable {
			return false
		}
	}
	return true
}

// inOrder copies the request, whose lists upstream makes of maps: so that a repeated one is the same.
func inOrder(in *ec2.CreateFleetInput) *ec2.CreateFleetInput {
	out := *in
	template := func(c ec2types.FleetLaunchTemplateConfigRequest) string {
		if c.LaunchTemplateSpecification == nil {
			return ""
		}
		return aws.ToString(c.LaunchTemplateSpecification.LaunchTemplateName) + aws.ToString(c.LaunchTemplateSpecification.LaunchTemplateId)
	}
	out.LaunchTemplateConfigs = slices.SortedFunc(slices.Values(in.LaunchTemplateConfigs), func(a, b ec2types.FleetLaunchTemplateConfigRequest) int {
		return strings.Compare(template(a), template(b))
	})
	for i := range out.LaunchTemplateConfigs {
		c := &out.LaunchTemplateConfigs[i]
		c.Overrides = slices.SortedFunc(slices.Values(c.Overrides), func(a, b ec2types.FleetLaunchTemplateOverridesRequest) int {
			return cmp.Or(cmp.Compare(a.InstanceType, b.InstanceType), strings.Compare(aws.ToString(a.AvailabilityZone), aws.ToString(b.AvailabilityZone)),
				strings.Compare(aws.ToString(a.SubnetId), aws.ToString(b.SubnetId)), strings.Compare(aws.ToString(a.ImageId), aws.ToString(b.ImageId)))
		})
	}
	out.TagSpecifications = slices.Clone(in.TagSpecifications)
	for i := range out.TagSpecifications {
		s := &out.TagSpecifications[i]
		s.Tags = slices.SortedFunc(slices.Values(s.Tags), func(a, b ec2types.Tag) int { return strings.Compare(aws.ToString(a.Key), aws.ToString(b.Key)) })
	}
	return &out
}
