import static java.nio.charset.StandardCharsets.UTF_8;

import io.cloudevents.CloudEvent;
import io.cloudevents.core.builder.CloudEventBuilder;
import io.cloudevents.jackson.JsonFormat;
import io.nats.client.JetStream;
import io.nats.client.Nats;
import java.net.URI;

/** What the blocks of docs/your-publisher.md for Java need around them. */
final class Frame {
    public static void main(String[] arguments) throws Exception {
        try (var connection = Nats.connect(arguments[0])) {
            // The blocks.
        }
    }
}
